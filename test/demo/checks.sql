-- What the handlers have written, beside what plain SQL makes of the events.
CREATE VIEW expected_state AS
	SELECT DISTINCT ON (data ->> 'package')
		data ->> 'package' AS package, data ->> 'state' AS state,
		data ->> 'version' AS version, aggregate_version AS last_line
	FROM package_events
	WHERE event_type = 'PACKAGE.STATUS'
	ORDER BY data ->> 'package', aggregate_version DESC;

CREATE VIEW expected_lines AS
	SELECT data ->> 'package' AS package, count(*) AS lines
	FROM package_events
	GROUP BY data ->> 'package';

CREATE VIEW expected_announcements AS
	SELECT data ->> 'package' AS package, data ->> 'version' AS version,
		event_timestamp AS at
	FROM package_events
	WHERE event_type = 'PACKAGE.INSTALL';

CREATE VIEW checks AS
	SELECT 1 AS number,
		'each package''s state, by "project"' AS checked,
		(SELECT count(*) FROM expected_state) AS expected,
		(SELECT count(*) FROM package_state) AS found,
		(SELECT count(*) FROM (TABLE expected_state EXCEPT ALL TABLE package_state) e) +
		(SELECT count(*) FROM (TABLE package_state EXCEPT ALL TABLE expected_state) e) AS different
	UNION ALL
	SELECT 2, 'lines of each package, by "count"',
		(SELECT count(*) FROM expected_lines),
		(SELECT count(*) FROM package_lines),
		(SELECT count(*) FROM (TABLE expected_lines EXCEPT ALL TABLE package_lines) e) +
		(SELECT count(*) FROM (TABLE package_lines EXCEPT ALL TABLE expected_lines) e)
	UNION ALL
	SELECT 3, 'announcements, by "announce"',
		(SELECT count(*) FROM expected_announcements),
		(SELECT count(*) FROM announcements),
		(SELECT count(*) FROM (TABLE expected_announcements EXCEPT ALL TABLE announcements) e) +
		(SELECT count(*) FROM (TABLE announcements EXCEPT ALL TABLE expected_announcements) e)
	UNION ALL
	SELECT 4, 'numbers and dead letters, by "number"', e.n, f.n, abs(e.n - f.n)
	FROM (SELECT count(*) AS n FROM package_events WHERE event_type = 'PACKAGE.INSTALL') e,
		(SELECT (SELECT count(*) FROM package_numbers) +
			(SELECT count(*) FROM dbopt_dead_letters WHERE handler = 'number') AS n) f;
