-- Circuit breakers, as they are shown and switched by hand.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dbopt CASCADE;
DROP ROLE IF EXISTS regress_circuit;
RESET client_min_messages;
CREATE TABLE circuit_events (id int PRIMARY KEY, event_type text NOT NULL);
SELECT dbopt_attach_events('circuit_events');
CREATE FUNCTION circuit_handler(circuit_events) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT dbopt_register_handler('circuit a', 'A', 'circuit_handler(circuit_events)', 'circuit_events', policy => 'database');
SELECT dbopt_register_handler('circuit b', 'B', 'circuit_handler(circuit_events)', 'circuit_events');
CREATE VIEW circuits AS SELECT * FROM dbopt_circuit_breakers()
 WHERE name = 'database' OR name LIKE 'circuit %' ORDER BY name COLLATE "C";
SELECT dbopt_reset_circuit_breaker() > 2 AS all_reset;

-- One for each handler, before it ran, and one for the database.
SELECT name, state, consecutive_failures, failure_threshold, opened_at, retry_at, successes, failures, rejected FROM circuits;
-- The threshold is the policy's, at once.
BEGIN;
UPDATE dbopt_retry_policy SET failure_threshold = 7 WHERE name = 'database';
SELECT name, failure_threshold FROM circuits;
ROLLBACK;

-- By hand: open until reset, and it counts before the commit.
BEGIN;
SELECT dbopt_trip_circuit_breaker('circuit a');
ROLLBACK;
SELECT name, state, opened_at <= now() AS opened, retry_at FROM circuits;
SELECT dbopt_circuit_breaker_state('circuit a'), dbopt_circuit_breaker_state('circuit b'),
       dbopt_circuit_breaker_state('database'), dbopt_circuit_breaker_state(NULL);
SELECT tripped AS before FROM circuits WHERE name = 'circuit a' \gset
SELECT dbopt_trip_circuit_breaker('circuit a');
SELECT tripped - :before AS more FROM circuits WHERE name = 'circuit a';
SELECT dbopt_reset_circuit_breaker('circuit a');
SELECT name, state, opened_at, retry_at FROM circuits WHERE name = 'circuit a';
SELECT dbopt_reset_circuit_breaker('circuit a') AS closed_one;
SELECT dbopt_trip_circuit_breaker('database'), dbopt_trip_circuit_breaker('circuit b');
SELECT name, state FROM circuits;
SELECT dbopt_reset_circuit_breaker() = count(*) AS all_reset FROM dbopt_circuit_breakers();
SELECT name, state FROM circuits;

-- Names that are none.
\set VERBOSITY sqlstate
SELECT dbopt_circuit_breaker_state('nothing');
SELECT dbopt_reset_circuit_breaker('nothing');
SELECT dbopt_trip_circuit_breaker('nothing');
SELECT dbopt_trip_circuit_breaker(NULL);
SELECT dbopt_trip_circuit_breaker('overall');
\set VERBOSITY default
SELECT dbopt_trip_circuit_breaker('nothing');

-- A handler that is gone takes its breaker along; a new one starts closed.
SELECT dbopt_trip_circuit_breaker('circuit b');
SELECT dbopt_unregister_handler('circuit b');
SELECT name, state FROM circuits;
SELECT dbopt_register_handler('circuit b', 'B', 'circuit_handler(circuit_events)', 'circuit_events');
SELECT name, state FROM circuits;

-- Rights.
CREATE ROLE regress_circuit;
SET ROLE regress_circuit;
SELECT count(*) FROM dbopt_circuit_breakers();
SELECT dbopt_trip_circuit_breaker('circuit a');
SELECT dbopt_reset_circuit_breaker();
RESET ROLE;
GRANT pg_monitor TO regress_circuit;
SET ROLE regress_circuit;
SELECT count(*) > 2 AS some FROM dbopt_circuit_breakers();
SELECT dbopt_circuit_breaker_state('circuit a');
SELECT dbopt_trip_circuit_breaker('circuit a');
SELECT dbopt_reset_circuit_breaker();
RESET ROLE;

DROP VIEW circuits;
SELECT dbopt_unregister_handler('circuit a'), dbopt_unregister_handler('circuit b');
SELECT dbopt_detach_events('circuit_events');
DROP FUNCTION circuit_handler;
DROP TABLE circuit_events;
DROP ROLE regress_circuit;
