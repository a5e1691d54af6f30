-- The extension can be created, and puts nothing outside its own names.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS dbopt, pg_trgm CASCADE;
RESET client_min_messages;
CREATE EXTENSION dbopt CASCADE;
SELECT extname, extversion, extrelocatable
  FROM pg_extension WHERE extname = 'dbopt';
SELECT pg_describe_object(classid, objid, objsubid) AS stray
  FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dbopt')
   AND deptype = 'e'
   AND pg_describe_object(classid, objid, objsubid) !~ '\mdbopt_'
 ORDER BY 1;
