-- What the owner of an events table may do to it neither brings the server
-- down nor gets the owner more rights, and loses no event in silence.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS dbopt CASCADE;
CREATE EXTENSION dbopt CASCADE;
CREATE ROLE owners_test_user LOGIN;
CREATE SCHEMA owners_test AUTHORIZATION owners_test_user;
GRANT EXECUTE ON FUNCTION dbopt_create_events, dbopt_attach_events,
	dbopt_register_handler, dbopt_unregister_handler, dbopt_replay
	TO owners_test_user;
RESET client_min_messages;
SET search_path = owners_test, public;
\pset format unaligned
\pset tuples_only on
SET ROLE owners_test_user;

-- A trigger of the stamp function on columns of other types
CREATE TABLE numbers (a int, b bigint, c int);
CREATE TRIGGER x BEFORE INSERT OR UPDATE OF a, b, c ON numbers
	FOR EACH ROW EXECUTE FUNCTION dbopt_stamp('1');
INSERT INTO numbers VALUES (5, 0, 1);
CREATE TABLE texts (a text, b text, c int);
CREATE TRIGGER x BEFORE INSERT OR UPDATE OF a, b, c ON texts
	FOR EACH ROW EXECUTE FUNCTION dbopt_stamp('1');
INSERT INTO texts VALUES ('a', 'b', 1);
-- A row that seems to move to where its key would have another type
CREATE TABLE from_here (a text, b bigint, c int);
CREATE TRIGGER x BEFORE DELETE OR INSERT OR UPDATE OF a, b, c ON from_here
	FOR EACH ROW EXECUTE FUNCTION dbopt_stamp('1');
CREATE TABLE to_there (a text, b bigint, c text);
CREATE TRIGGER x BEFORE INSERT OR UPDATE OF a, b, c ON to_there
	FOR EACH ROW EXECUTE FUNCTION dbopt_stamp('1');
INSERT INTO from_here VALUES ('A', 0, 5);
BEGIN;
CREATE TEMPORARY TABLE place AS SELECT b FROM from_here;
DELETE FROM from_here;
INSERT INTO to_there SELECT 'A', b, 'c' FROM place;
COMMIT;
SELECT count(*) FROM to_there;

-- An immutable function in an index runs while a query is planned
SELECT dbopt_create_events('log', false);
CREATE TABLE who_ran (role name);
CREATE FUNCTION tell() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO owners_test.who_ran VALUES (current_user);
	RETURN 1;
END $$;
CREATE FUNCTION constant(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN owners_test.tell();
END $$;
CREATE INDEX ON log ((constant(1)));
CREATE FUNCTION on_log(e log) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT dbopt_register_handler('owners replayed', 'A', 'on_log(log)', 'log');
TRUNCATE who_ran;
\c -
SET search_path = owners_test, public;
SET ROLE owners_test_user;
SELECT dbopt_replay('owners replayed', '-infinity');
SELECT count(*) > 0 FROM who_ran;
SELECT DISTINCT role FROM who_ran;
SELECT dbopt_unregister_handler('owners replayed');

-- The key is no key any more
CREATE TABLE seen (what text);
CREATE TABLE keyless (id uuid PRIMARY KEY, event_type text);
SELECT dbopt_attach_events('keyless');
CREATE FUNCTION on_keyless(e keyless) RETURNS void LANGUAGE sql
	BEGIN ATOMIC
		INSERT INTO seen VALUES ('keyless ' || e.id);
	END;
RESET ROLE;
SELECT dbopt_register_handler('owners keyless', 'A', 'on_keyless(keyless)', 'keyless', run_as => 'owners_test_user');
ALTER TABLE keyless DROP CONSTRAINT keyless_pkey;
ALTER TABLE keyless ALTER id DROP NOT NULL;
INSERT INTO keyless VALUES (NULL, 'A');
SELECT dbopt_resume();
SELECT state, reason FROM dbopt_sources WHERE events = 'owners_test.keyless';
DELETE FROM keyless;
INSERT INTO keyless VALUES ('00000000-0000-0000-0000-000000000001', 'A');
ALTER TABLE keyless ALTER id SET NOT NULL;
SELECT dbopt_resume();
SELECT dbopt_drain();
SELECT * FROM seen;
SELECT dbopt_unregister_handler('owners keyless');

-- Two events in one place, which no unique index keeps out of a partition
TRUNCATE seen;
CREATE TABLE parts (id int, at int, event_type text, PRIMARY KEY (id, at))
	PARTITION BY RANGE (at);
CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE other_part PARTITION OF parts FOR VALUES FROM (10) TO (20);
SELECT dbopt_attach_events('parts', 'id');
CREATE FUNCTION on_part(e parts) RETURNS void LANGUAGE sql
	BEGIN ATOMIC
		INSERT INTO seen VALUES ('part ' || e.id || ' ' || e.at);
	END;
SELECT dbopt_register_handler('owners parts', '*', 'on_part(parts)', 'parts', chunk_size => 1);
INSERT INTO parts VALUES (1, 1, 'A'), (1, 2, 'A'), (2, 1, 'A');
SELECT dbopt_drain();
DELETE FROM parts WHERE id = 1 AND at = 2;
SELECT dbopt_drain();
INSERT INTO parts VALUES (5, 1, 'B'), (5, 11, 'B'), (6, 1, 'B');
SELECT dbopt_drain();
DELETE FROM parts WHERE id = 5 AND at = 11;
SELECT dbopt_drain();
SELECT * FROM seen ORDER BY what;

SET client_min_messages = warning;
DROP EXTENSION dbopt CASCADE;
DROP SCHEMA owners_test CASCADE;
DROP OWNED BY owners_test_user;
DROP ROLE owners_test_user;
