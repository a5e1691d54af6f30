-- The extension is there, with the version its control file promises.
BEGIN;
SELECT plan(3);

SELECT has_extension('dbopt');
SELECT is(extversion, default_version, 'installed version is the default version')
  FROM pg_extension JOIN pg_available_extensions ON name = extname
 WHERE extname = 'dbopt';
SELECT has_extension('pg_trgm');

SELECT * FROM finish();
ROLLBACK;
