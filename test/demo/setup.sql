-- The demo's events table, what its handlers write, and its retry policies.

SET client_min_messages = warning;
CREATE EXTENSION dbopt CASCADE;

-- A plain log: every handler gets every event of its types.
SELECT dbopt_create_events('package_events', mark_processed => false) \g /dev/null

-- The history as it was read, a row for each line.
CREATE TABLE history (
	line bigint PRIMARY KEY,
	at timestamptz NOT NULL,
	action text NOT NULL,
	package text NOT NULL,
	architecture text,
	version text,
	state text
);

CREATE TABLE package_state (
	package text PRIMARY KEY,
	state text NOT NULL,
	version text,
	last_line bigint NOT NULL
);

CREATE TABLE package_lines (
	package text PRIMARY KEY,
	lines bigint NOT NULL DEFAULT 0
);

CREATE TABLE package_numbers (
	package text NOT NULL,
	number bigint NOT NULL
);

CREATE TABLE announcements (
	package text NOT NULL,
	version text,
	at timestamptz NOT NULL
);

CREATE TABLE service (up boolean NOT NULL);
INSERT INTO service VALUES (false);

-- Delays are short, so that nobody has to wait for the demo.
INSERT INTO dbopt_retry_policy
	(name, max_attempts, base_delay, max_delay, jitter, failure_threshold, reset_timeout)
VALUES
	('locks', 100, '100 ms', '500 ms', 'full', 1000000, '1 s'),
	('service', 100, '100 ms', '500 ms', 'full', 5, '1 s');
