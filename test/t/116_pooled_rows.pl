# Rows of callers' SQL: what to_jsonb() would make of them, to the byte.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('pooled_rows');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	max_worker_processes = 16
	fsync = off
});
$node->start;
asking($node);

sql('CREATE EXTENSION dbopt CASCADE');
sql(q{
	CREATE TYPE plain AS ENUM ('small');
	CREATE TYPE mood AS ENUM ('sad', 'glad');
	CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE sql AS $$SELECT json_build_object('mood', $1::text)$$;
	CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
	CREATE DOMAIN feeling AS mood;
	CREATE DOMAIN positive AS int CHECK (VALUE > 0);
	CREATE DOMAIN label AS text;
	CREATE TYPE pair AS (a int, b text);
});

# Values of a column, by the number i of the row.
my @values = (
	'i % 2 = 0',
	'(i * 300 - 2000)::int2',
	'i * 100000000 - 500000000',
	'i::int8 * 100000000000000000 - 3',
	'i / 7.0',
	'1.50::numeric * i',
	'0.000',
	'10::numeric ^ (i * 20)',
	q{'NaN'::numeric},
	q{'-Infinity'::numeric},
	'i / 3.0::float8',
	'1e300::float8',
	q{'Infinity'::float8},
	'(i / 3.0)::float4',
	q{''},
	q{repeat('ä"\\', i)},
	q{repeat('x', i * 20000)},
	q{('v' || i)::varchar(5)},
	q{'c'::char(5)},
	q{'d'::"char"},
	q{'name'::name},
	q{date '2026-02-28' + i},
	q{'infinity'::date},
	q{timestamp '2026-01-01 12:00:00.5' + i * interval '1 h'},
	q{timestamptz '2026-01-01' + i * interval '1 s'},
	q{'-infinity'::timestamptz},
	q{time '12:00'},
	q{interval '1 day 2 h'},
	q{md5(i::text)::uuid},
	q{'\\xabcd'::bytea},
	q{inet '::1'},
	q{B'101'},
	q{'a b'::tsvector},
	'1::oid',
	q{'pg_class'::regclass},
	q{'1 2'::int2vector},
	'int4range(1, i + 1)',
	'point(1, i)',
	q{'{}'::text[]},
	'ARRAY[i, NULL, 2]',
	'ARRAY[[1, 2], [3, i]]',
	q{ARRAY[ROW(i, 'x')::pair]},
	q{ROW(i, 'b')::pair},
	q{'{"b": [1, {"c": 1.50}], "a": "x"}'::jsonb},
	q{'3.10'::jsonb},
	q{'"s"'::jsonb},
	q{'null'::jsonb},
	q{'true'::jsonb},
	q{'{}'::jsonb},
	q{'[]'::jsonb},
	q{'{"b": 1, "b": [2]}'::json},
	q{'small'::plain},
	q{'glad'::mood},
	q{'sad'::feeling},
	q{'{glad}'::mood[]},
	'(i + 1)::positive',
	q{'l'::label});

# Names of several lengths; nulls at other places in each row.
my @names = ('k%d', 'K%dé', 'a_long_name_%d');
my $columns = join ', ',
  map { sprintf "CASE WHEN (i + %d) %% 5 > 0 THEN %s END AS \"$names[$_ % 3]\"", $_, $values[$_], $_ } 0 .. $#values;
sql("CREATE VIEW kinds AS SELECT i, $columns FROM generate_series(0, 9) i");
sql(q{CREATE TABLE sent AS SELECT (r ->> 'i')::int AS i, r FROM dbopt_with_connection('SELECT * FROM kinds') r});
sql('CREATE TABLE expected AS SELECT i, to_jsonb(k) AS r FROM kinds k');

my $both = 'FROM sent s FULL JOIN expected e USING (i)';
is(sql("SELECT count(s) || ' ' || count(e) $both"), '10 10', 'as many rows');
is(sql("SELECT i, key, s.r -> key, value $both, jsonb_each(e.r) WHERE s.r -> key IS DISTINCT FROM value"), '', 'each value is found by its key');
is(sql("SELECT i $both WHERE s.r::text IS DISTINCT FROM e.r::text"), '', 'the text is the same');
is(sql("SELECT i $both WHERE pg_column_size(s.r) IS DISTINCT FROM pg_column_size(e.r)"), '', 'and the size');

# ---- what columns may be -------------------------------------------------

sub row
{
	my ($statement) = @_;

	return sql("SELECT * FROM dbopt_with_connection(\$\$$statement\$\$)");
}

is(row('SELECT'), '{}', 'no columns');
is(row('SELECT 1 AS a, 2 AS b, 3 AS a'), '{"a": 3, "b": 2}', 'of two columns with a name it is the last');
is(row('SELECT 1, 2'), '{"?column?": 2}', 'as with those that have none');
is(row('SELECT ROW(1, NULL) AS r'), '{"r": {"f1": 1, "f2": null}}', 'a row of no type');
is(row('SELECT pg_advisory_xact_lock(1) AS v'), '{"v": ""}', 'a function that returns nothing');
is(row('EXPLAIN (COSTS off) SELECT 1'), '{"QUERY PLAN": "Result"}', 'a command that returns rows');
is(row('SELECT ' . join(', ', map { "$_ AS c$_" } 1 .. 1600)), sql('SELECT jsonb_object_agg(\'c\' || i, i) FROM generate_series(1, 1600) i'),
	'many columns');

my (undef, undef, $errors) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT dbopt_with_connection('SELECT repeat(''x'', 270000000)')");
like($errors, qr/ERROR:  54000/, 'what does not fit into jsonb is refused');
is(row('SELECT 1 AS a'), '{"a": 1}', '... and the next call works');

$node->stop;
done_testing();
