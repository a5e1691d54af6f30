-- The extension is there, with the version its control file promises, and a comment
-- on each of its objects.
BEGIN;
SELECT plan(4);

SELECT has_extension('dbopt');
SELECT is(extversion, default_version, 'installed version is the default version')
  FROM pg_extension JOIN pg_available_extensions ON name = extname
 WHERE extname = 'dbopt';
SELECT has_extension('pg_trgm');
SELECT is_empty($$
	SELECT pg_describe_object(d.classid, d.objid, 0)
	  FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'dbopt'
	 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND d.classid <> 'pg_type'::regclass
	   AND obj_description(d.objid, d.classid::regclass::name) IS NULL $$, 'every object has a comment');

SELECT * FROM finish();
ROLLBACK;
