-- The demo's handlers: each takes events in another form, and fails in
-- another way.

-- Takes many events at once.  Chunks may run side by side, so an older line
-- never overwrites a newer one.
CREATE FUNCTION project(lines package_events[]) RETURNS void
LANGUAGE sql AS $$
	INSERT INTO package_state AS s (package, state, version, last_line)
	SELECT DISTINCT ON (l.data ->> 'package')
		l.data ->> 'package', l.data ->> 'state', l.data ->> 'version', l.aggregate_version
	FROM unnest(lines) l
	ORDER BY l.data ->> 'package', l.aggregate_version DESC
	ON CONFLICT (package) DO UPDATE
	SET state = EXCLUDED.state, version = EXCLUDED.version, last_line = EXCLUDED.last_line
	WHERE s.last_line < EXCLUDED.last_line
$$;

-- Does not wait for locks: as long as somebody else holds one, it fails
-- (55P03), and is tried again.
CREATE FUNCTION count_line(line package_events) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM FROM package_lines
	WHERE package = line.data ->> 'package' FOR UPDATE NOWAIT;
	UPDATE package_lines SET lines = lines + 1
	WHERE package = line.data ->> 'package';
END
$$;

-- Believes that versions begin with a number.  Where they do not, it fails
-- (22P02), and no further attempt would help.
CREATE FUNCTION read_number(line jsonb) RETURNS void
LANGUAGE sql AS $$
	INSERT INTO package_numbers
	VALUES (line -> 'data' ->> 'package',
		substring(line -> 'data' ->> 'version' FROM '^[^.+~-]*')::bigint)
$$;

-- Needs a service.  When that is down, every call fails (08001).
CREATE FUNCTION announce(line package_events) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	IF NOT (SELECT up FROM service) THEN
		RAISE EXCEPTION 'connection refused by the announcement service'
			USING ERRCODE = 'sqlclient_unable_to_establish_sqlconnection';
	END IF;
	INSERT INTO announcements
	VALUES (line.data ->> 'package', line.data ->> 'version', line.event_timestamp);
END
$$;

SELECT dbopt_register_handler('project', 'PACKAGE.STATUS', 'project(package_events[])'),
	dbopt_register_handler('count', 'PACKAGE.*', 'count_line(package_events)',
		policy => 'locks', max_concurrency => 1),
	dbopt_register_handler('number', 'PACKAGE.INSTALL', 'read_number(jsonb)'),
	dbopt_register_handler('announce', 'PACKAGE.INSTALL', 'announce(package_events)',
		policy => 'service', chunk_size => 1, timeout => '5 s')
\g /dev/null
