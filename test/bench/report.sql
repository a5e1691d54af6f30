-- Reads lines (key, order, title, unit, goal) and results (key, reference,
-- value; one a round) and prints the medians.  A ratio's median is that of the
-- rounds' ratios.  A goal is a comparison of the ratio or of the value.
CREATE TEMP TABLE line (number int GENERATED ALWAYS AS IDENTITY, key text, title text, unit text, goal text);
CREATE TEMP TABLE result (key text, reference float8, value float8);
\copy line (key, title, unit, goal) FROM 'lines' (DELIMITER '|')
\copy result FROM 'results' (DELIMITER '|', NULL '')

-- Three digits that count, or all before the point.
CREATE FUNCTION pg_temp.digits(x float8) RETURNS text LANGUAGE sql AS $$
	SELECT CASE
		WHEN x IS NULL THEN NULL
		WHEN x = 0 THEN '0'
		ELSE trim(to_char(round(x::numeric, greatest(2 - floor(log(abs(x)::numeric))::int, 0)),
			'FM999,999,999,990.' || repeat('0', greatest(2 - floor(log(abs(x)::numeric))::int, 0))), '. ')
	END $$;

CREATE FUNCTION pg_temp.is_met(goal text, ratio float8, value float8) RETURNS boolean LANGUAGE sql AS $$
	SELECT CASE split_part(goal, ' ', 2)
		WHEN '<=' THEN x <= bound
		WHEN '>=' THEN x >= bound
	END
	FROM (SELECT CASE split_part(goal, ' ', 1) WHEN 'ratio' THEN ratio ELSE value END AS x,
		nullif(split_part(goal, ' ', 3), '')::float8 AS bound) g $$;

SELECT title AS "what", unit,
	coalesce(pg_temp.digits(m.reference), '-') AS reference,
	coalesce(pg_temp.digits(m.value), 'n/a') AS dbopt,
	coalesce(pg_temp.digits(m.ratio), '-') AS ratio,
	goal,
	CASE WHEN m.value IS NULL THEN '' WHEN pg_temp.is_met(goal, m.ratio, m.value) THEN 'yes'
		WHEN goal <> '' THEN 'NO' ELSE '' END AS met,
	m.rounds
FROM line
CROSS JOIN LATERAL (
	SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY reference) AS reference,
		percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS value,
		percentile_cont(0.5) WITHIN GROUP (ORDER BY value / nullif(reference, 0)) AS ratio,
		count(value) AS rounds
	FROM result r WHERE r.key = line.key) m
ORDER BY number;
