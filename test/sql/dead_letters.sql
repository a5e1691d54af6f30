-- Retries, dead letters and the backlog, as they are shown and changed.
-- The handlers are paused, so that nothing moves by itself.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dbopt CASCADE;
DROP ROLE IF EXISTS regress_dl_mail, regress_dl_other, regress_dl_watch;
RESET client_min_messages;
CREATE ROLE regress_dl_mail LOGIN;
CREATE ROLE regress_dl_other LOGIN;
CREATE ROLE regress_dl_watch;
GRANT SELECT ON dbopt_dead_letters, dbopt_pending_retries TO regress_dl_mail, regress_dl_other;
GRANT EXECUTE ON FUNCTION dbopt_replay_dead_letters, dbopt_discard_dead_letters, dbopt_backlog
	TO regress_dl_mail, regress_dl_other;
CREATE TABLE dl_events (id int PRIMARY KEY, event_type text NOT NULL, created_at timestamptz);
SELECT dbopt_attach_events('dl_events');
GRANT SELECT ON dl_events TO regress_dl_mail;
CREATE FUNCTION dl_mail(dl_events) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION dl_audit(dl_events) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
BEGIN;
SELECT dbopt_register_handler('dl mail', 'MAIL', 'dl_mail(dl_events)', 'dl_events', run_as => 'regress_dl_mail', start_from => 'beginning');
SELECT dbopt_register_handler('dl audit', '*', 'dl_audit(dl_events)', 'dl_events', start_from => 'now');
SELECT dbopt_pause_handler('dl mail'), dbopt_pause_handler('dl audit');
COMMIT;

-- Nothing yet, but a row for each handler.
SELECT * FROM dbopt_backlog() WHERE handler LIKE 'dl %' ORDER BY handler, event_type;

-- What a session of the pool would have left.
INSERT INTO dbopt_retry_queue (handler_id, log_position, event_key, event_type, attempts,
                               next_retry_at, first_failed_at, failed_at, error_code, error_message)
SELECT handler_id, 1, '1', 'MAIL', 2, 'infinity', '2020-01-01', '2020-01-02', '40001', 'retry of ' || name
  FROM dbopt_handler WHERE name LIKE 'dl %';
INSERT INTO dbopt_dead_letter (handler_id, log_position, event_key, event_type, attempts,
                               error_code, error_message, first_failed_at, failed_at)
SELECT handler_id, k, k, CASE k WHEN 4 THEN 'OTHER' ELSE 'MAIL' END, 5, '23505', 'death of ' || name, '2020-01-01', '2020-01-03'
  FROM dbopt_handler, generate_series(2, 4) k WHERE name LIKE 'dl %';
SELECT handler, event_id, event_type, attempts, next_retry_at, error_code, error_message
  FROM dbopt_pending_retries ORDER BY handler;
SELECT handler, event_id, event_type, attempts, error_code, error_message
  FROM dbopt_dead_letters ORDER BY handler, event_id;
SELECT handler, event_type, waiting, retrying, dead, oldest_waiting, lag
  FROM dbopt_backlog() WHERE handler LIKE 'dl %' ORDER BY handler, event_type;

-- Error texts are for the handler's role and for who may read all statistics.
SET ROLE regress_dl_mail;
SELECT handler, error_code, error_message FROM dbopt_pending_retries ORDER BY handler;
SELECT DISTINCT handler, error_code, error_message FROM dbopt_dead_letters ORDER BY handler;
SET ROLE regress_dl_other;
SELECT handler, error_code, error_message FROM dbopt_pending_retries ORDER BY handler;
CREATE FUNCTION pg_temp.leak(message text) RETURNS boolean COST 0.0001 LANGUAGE plpgsql
	AS 'BEGIN RAISE NOTICE ''leaked %'', message; RETURN true; END';
SELECT count(*) FROM dbopt_dead_letters WHERE pg_temp.leak(error_message) AND event_id = '2';
RESET ROLE;
GRANT pg_read_all_stats TO regress_dl_other;
SET ROLE regress_dl_other;
SELECT handler, error_code, error_message FROM dbopt_pending_retries ORDER BY handler;
RESET ROLE;
REVOKE pg_read_all_stats FROM regress_dl_other;

-- Who may do what.
SET ROLE regress_dl_watch;
SELECT * FROM dbopt_dead_letters;
SELECT dbopt_replay_dead_letters();
SELECT dbopt_discard_dead_letters();
SET ROLE regress_dl_other;
SELECT dbopt_replay_dead_letters('dl mail');
SELECT dbopt_discard_dead_letters('dl mail', '2');
SELECT dbopt_replay_dead_letters(), dbopt_discard_dead_letters();
SELECT dbopt_replay_dead_letters('nobody');
SELECT dbopt_discard_dead_letters('nobody');
RESET ROLE;

-- One event, one handler, all of them.
SET ROLE regress_dl_mail;
SELECT dbopt_replay_dead_letters('dl mail', '2');
SELECT dbopt_replay_dead_letters('dl mail', 'no such event');
SELECT dbopt_discard_dead_letters(event_id => '3');
RESET ROLE;
SELECT handler, event_id, event_type, attempts, next_retry_at <= now() AS due, error_code, error_message
  FROM dbopt_pending_retries ORDER BY handler, event_id;
SELECT handler, event_id FROM dbopt_dead_letters ORDER BY handler, event_id;
BEGIN;
SELECT dbopt_discard_dead_letters();
SELECT count(*) FROM dbopt_dead_letters;
ROLLBACK;
SELECT dbopt_replay_dead_letters(NULL, '4');
SELECT dbopt_replay_dead_letters('dl audit');
SELECT count(*) FROM dbopt_dead_letters;
SELECT handler, count(*), sum(attempts) FROM dbopt_pending_retries GROUP BY 1 ORDER BY 1;
-- An event that is in both places, which it never should be, is retried once.
INSERT INTO dbopt_dead_letter (handler_id, log_position, event_key, event_type, attempts, first_failed_at, failed_at)
SELECT handler_id, 1, '1', 'MAIL', 5, now(), now() FROM dbopt_handler WHERE name = 'dl mail';
SELECT dbopt_replay_dead_letters('dl mail', '1');
SELECT attempts, next_retry_at <= now() AS due FROM dbopt_pending_retries WHERE handler = 'dl mail' AND event_id = '1';

-- The backlog counts what is behind the cursors and in their holes.
DELETE FROM dbopt_retry_queue;
INSERT INTO dl_events VALUES (1, 'MAIL', '2020-01-01 UTC'), (2, 'MAIL', now()), (3, 'OTHER', NULL);
INSERT INTO dl_events SELECT i, 'MAIL', now() FROM generate_series(4, 10) i;
INSERT INTO dl_events SELECT i, 'FULL', now() FROM generate_series(10001, 20000) i;
INSERT INTO dl_events SELECT i, 'HUGE', now() FROM generate_series(20001, 40000) i;
INSERT INTO dl_events SELECT i, 'HUGE', now() FROM generate_series(40001, 60000) i;
CREATE VIEW dl_backlog AS SELECT * FROM dbopt_backlog() WHERE handler LIKE 'dl %' ORDER BY handler, event_type;
-- Cursors as the scheduler would make them, which is kept away.
BEGIN;
LOCK TABLE dbopt_cursor, dbopt_cursor_version;
INSERT INTO dbopt_cursor (source_id, handler_id, event_type)
SELECT source_id, handler_id, t FROM dbopt_handler, unnest('{MAIL,OTHER,FULL,HUGE}'::text[]) t
 WHERE name = 'dl audit' OR name = 'dl mail' AND t = 'MAIL'
	ON CONFLICT DO NOTHING;
DELETE FROM dbopt_cursor_version;
INSERT INTO dbopt_cursor_version (cursor_id, seq, last_position, holes)
SELECT cursor_id, 1, -1, '{}' FROM dbopt_cursor;
SELECT handler, event_type, waiting, retrying, dead, oldest_waiting = '2020-01-01 UTC' AS first, lag > '365 days' AS old
  FROM dl_backlog WHERE event_type <> 'HUGE';
-- Behind the first transaction; with it as a hole; with a part of the hole done.
UPDATE dbopt_cursor_version SET last_position = (SELECT log_position FROM dl_events WHERE id = 1);
SELECT handler, event_type, waiting, lag < '1 hour' AS recent FROM dl_backlog WHERE event_type <> 'HUGE';
UPDATE dbopt_cursor_version SET holes = ARRAY[last_position];
SELECT handler, event_type, waiting, lag > '365 days' AS old FROM dl_backlog WHERE event_type <> 'HUGE';
UPDATE dbopt_cursor_version SET hole_position = last_position, hole_key = '1';
SELECT handler, event_type, waiting, lag > '365 days' AS old FROM dl_backlog WHERE event_type <> 'HUGE';
UPDATE dbopt_cursor_version SET hole_key = '2';
SELECT handler, event_type, waiting FROM dl_backlog WHERE event_type IN ('MAIL', 'OTHER');
-- Chunks that are handed out wait, too: a range without a position in it,
-- and single positions.
SAVEPOINT chunks;
UPDATE dbopt_cursor_version SET last_position = last_position + 1000000, holes = '{}', hole_position = NULL, hole_key = NULL;
INSERT INTO dbopt_chunk (cursor_id, seq, from_position, to_position, exclude, events, handed_out_at)
SELECT cursor_id, 1, -1, (SELECT log_position FROM dl_events WHERE id = 4), '{}', 1, now()
  FROM dbopt_cursor JOIN dbopt_handler h USING (handler_id) WHERE h.name = 'dl mail';
SELECT handler, event_type, waiting, lag > '365 days' AS old FROM dl_backlog WHERE event_type = 'MAIL';
UPDATE dbopt_chunk SET exclude = ARRAY[(SELECT log_position FROM dl_events WHERE id = 1)];
SELECT handler, event_type, waiting, lag > '365 days' AS old FROM dl_backlog WHERE event_type = 'MAIL';
UPDATE dbopt_chunk SET positions = exclude, exclude = '{}', to_position = exclude[1];
SELECT handler, event_type, waiting, lag > '365 days' AS old FROM dl_backlog WHERE event_type = 'MAIL';
UPDATE dbopt_chunk SET from_position = to_position, from_key = '1';
SELECT handler, event_type, waiting, lag > '365 days' AS old FROM dl_backlog WHERE event_type = 'MAIL';
ROLLBACK TO chunks;
-- Above 10,000, an estimate that is not far off, once the table is analyzed.
SELECT waiting > 10000 AS above FROM dl_backlog WHERE event_type = 'HUGE';
ANALYZE dl_events;
SELECT waiting BETWEEN 35000 AND 45000 AS near FROM dl_backlog WHERE event_type = 'HUGE';
UPDATE dbopt_cursor_version SET last_position = (SELECT log_position FROM dl_events WHERE id = 20001);
SELECT waiting BETWEEN 10001 AND 25000 AS near FROM dl_backlog WHERE event_type = 'HUGE';
-- A source that cannot be read has an unknown backlog.
DROP TRIGGER dbopt_stamp ON dl_events;
SELECT handler, event_type, waiting, retrying FROM dl_backlog;
ROLLBACK;

DROP VIEW dl_backlog;
DROP FUNCTION pg_temp.leak(text);
SELECT dbopt_unregister_handler('dl mail', true), dbopt_unregister_handler('dl audit', true);
SELECT dbopt_detach_events('dl_events');
DROP FUNCTION dl_mail, dl_audit;
DROP TABLE dl_events;
REVOKE ALL ON dbopt_dead_letters, dbopt_pending_retries FROM regress_dl_mail, regress_dl_other;
REVOKE ALL ON FUNCTION dbopt_replay_dead_letters, dbopt_discard_dead_letters, dbopt_backlog FROM regress_dl_mail, regress_dl_other;
DROP ROLE regress_dl_mail, regress_dl_other, regress_dl_watch;
