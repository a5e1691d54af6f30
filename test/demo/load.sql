-- Makes events of the history's lines.  Those of one second share a
-- transaction, as if they had been written when they happened.
DO $$
DECLARE
	second timestamptz;
BEGIN
	FOR second IN SELECT DISTINCT at FROM history ORDER BY at LOOP
		INSERT INTO package_events (event_type, aggregate_type, aggregate_id,
			aggregate_version, data, event_timestamp)
		SELECT 'PACKAGE.' || upper(action), 'package', md5(package)::uuid, line,
			jsonb_strip_nulls(jsonb_build_object('package', package,
				'architecture', architecture, 'version', version, 'state', state)),
			at
		FROM history
		WHERE at = second
		ORDER BY line;
		COMMIT;
	END LOOP;
END
$$;
