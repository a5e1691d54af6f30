-- Retry policies: the tables' rules, and the functions that apply them.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dbopt CASCADE;
RESET client_min_messages;
-- Errors with SQLSTATE and hint, but without places in the source.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ': ' || SQLERRM || coalesce(' / ' || nullif(hint, ''), '');
END $$;

-- What is shipped.
SELECT * FROM dbopt_retry_policy ORDER BY name;
SELECT policy, sqlstate, pattern, retryable FROM dbopt_retryable_error
 ORDER BY policy COLLATE "C" NULLS FIRST, sqlstate COLLATE "C", pattern COLLATE "C";
SELECT bool_and(shipped), bool_or(edited) FROM dbopt_retryable_error;

-- Every shipped code, as it is and in lower case, for every policy.
SELECT p.name, upper(code) = code AS upper, count(*),
       count(*) FILTER (WHERE dbopt_is_retryable(code, '', p.name)) AS retryable
  FROM dbopt_retry_policy p,
       unnest('{08000,08006,08P01,53000,53300,57P01,57P02,57P03,57P05,55P03,40001,40P01,40003,57014}'::text[]) c,
       unnest(ARRAY[c, lower(c)]) code
 GROUP BY 1, 2 ORDER BY 1, 2;
-- Every shipped pattern within a message, in three spellings, under a code
-- that nothing is known of; those of "event" retry everything unknown.
SELECT p.name, r.policy IS NOT NULL AS own, count(*),
       count(*) FILTER (WHERE dbopt_is_retryable('XX000', 'a ' || m || ' b', p.name)) AS retryable
  FROM dbopt_retry_policy p
  JOIN dbopt_retryable_error r ON coalesce(r.policy, p.name) = p.name,
       unnest(ARRAY[pattern, upper(pattern), lower(pattern)]) m
 WHERE pattern IS NOT NULL
 GROUP BY 1, 2 ORDER BY 1, 2;
-- Patterns of one policy say nothing to another.
SELECT dbopt_is_retryable('XX000', 'deadlock detected', 'transaction') AS transaction,
       dbopt_is_retryable('XX000', 'deadlock detected', 'database') AS database,
       dbopt_is_retryable('XX000', 'no connection to the server', 'database') AS database_too,
       dbopt_is_retryable('XX000', 'no connection to the server') AS "default";
SELECT dbopt_is_retryable('42601', 'syntax error') AS syntax_error,
       dbopt_is_retryable('XX000', 'syntax error') AS by_message,
       dbopt_is_retryable('XX000') AS unknown, dbopt_is_retryable('XX000', NULL) AS no_message,
       dbopt_is_retryable('XX000', 'syntax error', 'event') AS event_unknown;
SELECT sqlstate, dbopt_is_retryable(sqlstate, 'x', 'event') AS event
  FROM unnest('{22012,23505,42601,42P01,0A000,P0001,XX000}'::text[]) sqlstate;

-- Delays: the last attempts saturate, jitter stays within bounds.
SELECT p.name, a, dbopt_retry_delay(a, p.name, 0) AS least,
       dbopt_retry_delay(a, p.name, 0.5) AS middle, dbopt_retry_delay(a, p.name, 0.999999) AS most
  FROM dbopt_retry_policy p, unnest('{1,2,3,6,2147483647}'::int[]) a ORDER BY p.name, a;
SELECT bool_and(d BETWEEN '0.5 s' AND '1.5 s') AS within, count(DISTINCT d) > 90 AS spread
  FROM (SELECT dbopt_retry_delay(1) AS d FROM generate_series(1, 100)) s;
-- 100,000 draws of each kind, before the cap is reached and at it.
BEGIN;
INSERT INTO dbopt_retry_policy (name, base_delay, max_delay, multiplier, jitter)
SELECT 'draw ' || jitter, '10 s', '40 s', 2, jitter FROM unnest('{none,proportional,equal,full}'::text[]) AS jitter;
SELECT jitter, attempt, bool_and(d BETWEEN least AND most) AS within, bool_and(d <= '40 s') AS under_cap,
       min(d) < least + (most - least) * 0.001 AND max(d) > most - (most - least) * 0.001 OR jitter = 'none' AS fills_it,
       count(DISTINCT d) > 1000 AS spread, count(*)
  FROM (VALUES ('none', 1, interval '10 s', interval '10 s'), ('none', 9, '40 s', '40 s'),
		('proportional', 1, '5 s', '15 s'), ('proportional', 9, '20 s', '40 s'),
		('equal', 1, '5 s', '10 s'), ('equal', 9, '20 s', '40 s'),
		('full', 1, '1 ms', '10 s'), ('full', 9, '1 ms', '40 s')) AS bounds (jitter, attempt, least, most),
       LATERAL (SELECT dbopt_retry_delay(attempt, 'draw ' || jitter) AS d FROM generate_series(1, 100000)) AS draws
 GROUP BY jitter, attempt, least, most ORDER BY jitter, attempt;
ROLLBACK;

-- Arguments that are none.
SELECT pg_temp.try('SELECT dbopt_retry_delay(' || a || ')')
  FROM unnest('{0,-1,"NULL","1, NULL","1, ''nowhere''","1, ''default'', 1","1, ''default'', -0.1","1, ''default'', ''NaN''"}'::text[]) a;
SELECT pg_temp.try('SELECT dbopt_is_retryable(' || a || ')')
  FROM unnest('{"NULL","''''","''4000''","''400011''","''40-01''","''40''","''übles''","''40001'', '''', NULL","''40001'', '''', ''nowhere''"}'::text[]) a;

-- Rules count at once, in the transaction that writes them, too.
SELECT dbopt_is_retryable('XX000', 'out of cheese');
BEGIN;
INSERT INTO dbopt_retryable_error (pattern, retryable) VALUES ('out of cheese', true);
SELECT dbopt_is_retryable('XX000', 'Out of Cheese');
ROLLBACK;
SELECT dbopt_is_retryable('XX000', 'out of cheese');
INSERT INTO dbopt_retryable_error (policy, sqlstate, retryable) VALUES ('default', 'XX000', true);
SELECT dbopt_is_retryable('XX000', 'x') AS own, dbopt_is_retryable('XX000', 'x', 'database') AS other;
UPDATE dbopt_retryable_error SET retryable = false WHERE sqlstate = 'XX000';
SELECT dbopt_is_retryable('XX000', 'x');
DELETE FROM dbopt_retryable_error WHERE sqlstate = 'XX000' RETURNING shipped, edited;
-- The most specific rule decides.
BEGIN;
INSERT INTO dbopt_retryable_error (sqlstate, retryable) VALUES ('08006', false);
INSERT INTO dbopt_retryable_error (policy, pattern, retryable) VALUES ('default', 'timeout expired here', false);
SELECT dbopt_is_retryable('08006', 'timeout') AS state, dbopt_is_retryable('08001', 'x') AS class,
       dbopt_is_retryable('XX000', 'timeout expired here') AS longer, dbopt_is_retryable('XX000', 'timeout expired') AS shorter;
ROLLBACK;
-- Policies count at once.
INSERT INTO dbopt_retry_policy (name, base_delay, jitter, multiplier) VALUES ('mine', '2 s', 'none', 3);
SELECT dbopt_retry_delay(2, 'mine');
UPDATE dbopt_retry_policy SET multiplier = 1 WHERE name = 'mine' RETURNING shipped, edited;
SELECT dbopt_retry_delay(2, 'mine');

-- What a policy may not be.
SELECT c, pg_temp.try(format('UPDATE dbopt_retry_policy SET %s WHERE name = ''mine''', c)) AS result
  FROM unnest(ARRAY['max_attempts = 0', 'max_attempts = NULL', 'base_delay = ''-1 ms''', 'base_delay = ''1 day -25 hours''',
	'base_delay = ''1 month''', 'max_delay = ''-1 s''', 'max_delay = ''1 year''', 'multiplier = 0.99',
	'multiplier = ''NaN''', 'multiplier = ''Infinity''', 'jitter = ''some''', 'jitter = ''FULL''',
	'failure_threshold = 0', 'reset_timeout = ''0''', 'reset_timeout = ''-1 s''', 'half_open_trials = 0', 'name = ''''',
	'name = ''default''', 'base_delay = ''0''', 'max_delay = ''0''', 'max_delay = ''300 days''']) c;
SELECT dbopt_retry_delay(1, 'mine', 0);
-- What a rule may not be.
SELECT c, pg_temp.try(format('INSERT INTO dbopt_retryable_error (policy, sqlstate, pattern, retryable) VALUES (%s)', c)) AS result
  FROM unnest(ARRAY['NULL, NULL, NULL, true', 'NULL, ''4'', NULL, true', 'NULL, ''4000'', NULL, true',
	'NULL, ''40p01'', NULL, true', 'NULL, '''', NULL, true', 'NULL, NULL, '''', true', '''nowhere'', ''40001'', NULL, true',
	'NULL, ''40001'', NULL, NULL', 'NULL, ''40001'', NULL, false', 'NULL, NULL, ''econnreset'', false',
	'''event'', ''22'', NULL, true', '''mine'', ''40001'', NULL, false', '''mine'', ''40001'', NULL, true']) c;
-- A policy takes its rules along.
SELECT count(*) FROM dbopt_retryable_error WHERE policy = 'mine';
UPDATE dbopt_retry_policy SET name = 'yours' WHERE name = 'mine';
SELECT count(*) FROM dbopt_retryable_error WHERE policy = 'yours';
DELETE FROM dbopt_retry_policy WHERE name = 'yours';
SELECT count(*) FROM dbopt_retryable_error WHERE policy = 'yours';

-- Shipped rows can be edited, which is remembered, but not lost.
BEGIN;
UPDATE dbopt_retry_policy SET max_attempts = 7 WHERE name = 'event' RETURNING name, shipped, edited;
UPDATE dbopt_retry_policy SET shipped = false, edited = false WHERE name = 'event' RETURNING name, shipped, edited;
UPDATE dbopt_retryable_error SET retryable = true WHERE policy = 'event' AND sqlstate = '23'
	RETURNING policy, sqlstate, shipped, edited;
SELECT dbopt_is_retryable('23505', 'x', 'event');
ROLLBACK;
SELECT pg_temp.try(s) FROM unnest(ARRAY['DELETE FROM dbopt_retry_policy WHERE name = ''event''',
	'UPDATE dbopt_retry_policy SET name = ''other'' WHERE name = ''event''',
	'DELETE FROM dbopt_retryable_error WHERE sqlstate = ''40001''',
	'UPDATE dbopt_retryable_error SET sqlstate = ''40002'' WHERE sqlstate = ''40001''',
	'UPDATE dbopt_retryable_error SET policy = ''event'' WHERE sqlstate = ''40001''',
	'TRUNCATE dbopt_retry_policy CASCADE', 'TRUNCATE dbopt_retryable_error',
	'INSERT INTO dbopt_retry_policy (name) VALUES (''event'')']) s;

-- What a dump brings takes the shipped rows' place; the trigger runs for
-- replicated rows, too.
BEGIN;
SET LOCAL session_replication_role = replica;
COPY dbopt_retry_policy (name, max_attempts, base_delay, shipped, edited) FROM stdin;
event	9	00:00:03	t	t
was shipped once	2	00:00:01	t	t
own	2	00:00:01	f	f
\.
COPY dbopt_retryable_error FROM stdin;
\N	40001	\N	f	t	t
event	0A	\N	t	t	t
own	\N	cheese	t	f	f
\.
SELECT name, max_attempts, shipped, edited FROM dbopt_retry_policy ORDER BY name;
SELECT policy, sqlstate, pattern, retryable, shipped, edited FROM dbopt_retryable_error
 WHERE edited OR NOT shipped ORDER BY policy, sqlstate;
SELECT dbopt_is_retryable('40001'), dbopt_retry_delay(1, 'event', 0.5),
       dbopt_is_retryable('XX000', 'cheese', 'own');
ROLLBACK;
BEGIN;
INSERT INTO dbopt_retry_policy (name, max_attempts, shipped, edited) VALUES ('event', 9, true, true);
SELECT name, max_attempts, shipped, edited FROM dbopt_retry_policy ORDER BY name;
ROLLBACK;

-- The triggers serve no other table.
CREATE TEMP TABLE other (name text);
CREATE TRIGGER guard BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION dbopt_policy_guard();
SELECT pg_temp.try('INSERT INTO other VALUES (1)');
SELECT pg_temp.try('SELECT dbopt_policy_guard()');
