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

# ---- every type ----------------------------------------------------------

# Literals of PostgreSQL's own types.  Types that have none cannot be read.
my %samples = (
	boolean => [ 'true', 'false' ],
	'"char"' => [ 'a', '', '"' ],
	character => [ 'a', ' ' ],
	name => [ 'n', 'ö' ],
	text => [ '', "tab\tline\nquote\"back\\slash\1", 'ä€😀', '1', 'null', 'nan' ],
	'character varying' => [ '', 'v' ],
	bytea => [ '', '\x00ff27', '\\000\\\\' ],
	smallint => [ '0', '-32768', '32767', '10000' ],
	integer => [ '0', '-2147483648', '2147483647', '10000', '100000000' ],
	bigint => [ '0', '-9223372036854775808', '9223372036854775807', '10000000000000000' ],
	numeric => [
		'0', '-0', '0.00', '1.500', '-1e-20', '1e131071', '1e-16383', '9999', '10000', '0.0001', '12345678901234567890.123',
		'NaN', 'Infinity', '-Infinity'
	],
	real => [ '0', '-0', '1.17549435e-38', '3.4028235e38', '1e-45', '0.1', '16777216', 'NaN', 'Infinity', '-Infinity' ],
	'double precision' =>
	  [ '0', '-0', '2.2250738585072014e-308', '1.7976931348623157e308', '5e-324', '0.1', '1e15', '1e16', '-1e-5', 'NaN', 'Infinity', '-Infinity' ],
	money => [ '1.50', '-1000' ],
	date => [ '2026-02-28', '0044-03-15 BC', '4713-01-01 BC', '5874897-12-31', 'infinity', '-infinity', '12000-01-01' ],
	'timestamp without time zone' =>
	  [ '2026-01-01 12:00:00.5', '0044-03-15 00:00 BC', '294276-12-31 23:59:59.999999', 'infinity', '-infinity', '2026-01-01 00:00:00.000001' ],
	'timestamp with time zone' =>
	  [ '2026-01-01 12:00:00.5+14', '0044-03-15 00:00+00 BC', '1850-01-01 00:00+00', '2026-07-01 00:00+00', 'infinity', '-infinity' ],
	'time without time zone' => [ '00:00', '24:00', '12:00:00.000001' ],
	'time with time zone' => [ '12:00+15:59:59', '00:00:00.5-03' ],
	interval => [ '0', '1 year -2 mons 3 days -04:05:06.789', '-178000000 years', '1 us' ],
	json => [ '{"b": 1, "b": [2, {"c": null}], "aa": "\u00e4"}', '[]', '1e5', '"s"', 'null', 'true', ' { } ' ],
	jsonb => [ '{"b": 1.50, "aa": [2, {"c": null}]}', '[[], {}]', '-0.0', '"s"', 'null', 'false', '{}' ],
	uuid => ['00112233-4455-6677-8899-aabbccddeeff'],
	bit => [ '1', '0' ],
	'bit varying' => [ '', '10101' ],
	inet => [ '::1', '10.0.0.1/8' ],
	cidr => ['10.0.0.0/8'],
	macaddr => ['08:00:2b:01:02:03'],
	macaddr8 => ['08:00:2b:01:02:03:04:05'],
	point => [ '(1,-2.5)', '(NaN,Infinity)' ],
	lseg => ['[(0,0),(1,1)]'],
	line => ['{1,2,3}'],
	box => ['(1,1),(0,0)'],
	path => [ '((0,0),(1,1))', '[(0,0)]' ],
	polygon => ['((0,0),(1,1),(1,0))'],
	circle => ['<(0,0),2>'],
	oid => [ '0', '4294967295' ],
	xid => ['4294967295'],
	xid8 => ['18446744073709551615'],
	cid => ['7'],
	tid => ['(1,2)'],
	pg_lsn => ['16/B374D848'],
	pg_snapshot => ['10:20:10,14'],
	txid_snapshot => ['10:20:10,14'],
	int2vector => [ '', '1 -2' ],
	oidvector => [ '', '1 2' ],
	aclitem => ['=r/postgres'],
	refcursor => ['c'],
	jsonpath => ['$.a[*] ? (@ > 1)'],
	tsvector => [ '', "'a b':1A c" ],
	tsquery => ['a & !b'],
	regproc => [ '-', 'now' ],
	regprocedure => ['now()'],
	regoper => [ '0', 'pg_catalog.||/' ],
	regoperator => ['+(integer,integer)'],
	regclass => ['pg_class'],
	regcollation => ['"C"'],
	regtype => [ 'integer', '-' ],
	regrole => ['pg_monitor'],
	regnamespace => ['pg_catalog'],
	regconfig => ['english'],
	regdictionary => ['simple'],
	xml => ['<a>x</a>'],
	int4range => [ 'empty', '[1,5)', '(,)' ],
	int8range => ['[1,9223372036854775807)'],
	numrange => [ '[0.10,1e20]', '[NaN,]' ],
	daterange => [ '[2026-01-01,infinity)', '(,2026-01-01)' ],
	tsrange => ['["2026-01-01 00:00","2026-01-02 00:00")'],
	tstzrange => ['["2026-01-01 00:00+00",)'],
	int4multirange => [ '{}', '{[1,2),[3,4)}' ],
	int8multirange => ['{[1,2)}'],
	nummultirange => ['{[1.0,2.5]}'],
	datemultirange => ['{[2026-01-01,2026-01-02)}'],
	tsmultirange => ['{}'],
	tstzmultirange => ['{["2026-01-01 00:00+00",)}']);

sub literal
{
	my ($value) = @_;

	return q{E'} . ($value =~ s/(['\\])/\\$1/gr) . q{'};
}

# A value of each type, a domain over it, an array and a row of it, in each row.
my @columns;
my @unread;
foreach my $type (split /\n/, sql(q{SELECT format_type(oid, NULL) FROM pg_type
	WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typinput <> 'array_in'::regproc}))
{
	my $values = $samples{$type};

	if (!defined $values)
	{
		push @unread, $type;
		next;
	}
	my $number = @columns;
	my $name = $type =~ s/"//gr;
	my $value = sprintf '(ARRAY[%s])[i %% %d + 1]::text::%s', join(', ', map { literal($_) } @$values), scalar @$values, $type;
	sql("CREATE DOMAIN d$number AS $type; CREATE TYPE r$number AS (value $type)");
	push @columns, qq{$value AS "$name", ${value}::d$number AS "domain $name", ARRAY[$value, NULL] AS "array $name", ROW($value)::r$number AS "row $name"};
}
is(join(' ', sort @unread), 'gtsvector pg_brin_bloom_summary pg_brin_minmax_multi_summary pg_dependencies pg_mcv_list pg_ndistinct pg_node_tree',
	'there is a value of each type that has any');

# What a query makes in a session, and in this one, with some settings.
sub differences
{
	my ($query, $settings, $database) = @_;
	my $quoted = $query =~ s/'/''/gr;
	my @lines = split /\n/, $node->safe_psql($database // 'postgres', "$settings;
		SELECT concat_ws(' ', 'rows:', count(*) FILTER (WHERE s IS NOT NULL), count(e)) FROM
			dbopt_with_connection('$quoted') WITH ORDINALITY s (s, n)
			FULL JOIN (SELECT to_jsonb(q), row_number() OVER () FROM ($query) q) e (e, n) USING (n)
			WHERE s IS DISTINCT FROM e OR s::text IS DISTINCT FROM e::text OR pg_column_size(s) IS DISTINCT FROM pg_column_size(e)
				OR EXISTS (SELECT FROM jsonb_each(e) WHERE s -> key IS DISTINCT FROM value)");

	return $lines[-1];
}

sql('CREATE VIEW each AS SELECT i, ' . join(', ', @columns) . ' FROM generate_series(0, 27) i');
foreach my $settings (
	q{SET datestyle = 'ISO'},
	q{SET datestyle = 'SQL, DMY'; SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape'; SET timezone = 'Asia/Kathmandu'},
	q{SET datestyle = 'German'; SET intervalstyle = 'sql_standard'; SET extra_float_digits = 0; SET timezone = 'America/St_Johns'},
	q{SET datestyle = 'Postgres'; SET intervalstyle = 'postgres_verbose'; SET extra_float_digits = -15; SET timezone = '<+1:23>-1:23'})
{
	is(differences('SELECT * FROM each', $settings), 'rows: 0 0', "every type: $settings");
}
sql('CREATE TABLE each_stored AS SELECT * FROM each; ALTER TABLE each_stored DROP COLUMN text, ADD added text DEFAULT now()');
is(differences('SELECT * FROM each_stored', ''), 'rows: 0 0', 'and from a table');

# Catalogs have what has no literal.
foreach my $catalog (qw(pg_type pg_proc pg_rewrite pg_index pg_constraint pg_operator pg_database pg_roles pg_statistic_ext_data pg_init_privs pg_attrdef))
{
	is(differences("SELECT * FROM $catalog ORDER BY $catalog\::text", ''), 'rows: 0 0', "rows of $catalog");
}

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

# ---- other encodings -----------------------------------------------------

foreach my $encoding ('LATIN1', 'EUC_JP', 'SQL_ASCII')
{
	my $name = lc $encoding;
	my $text = $encoding eq 'EUC_JP' ? q{U&'\6f22\5b57'} : $encoding eq 'LATIN1' ? q{U&'\00e4\00df'} : q{E'\xff\xfe'};
	my $key = $encoding eq 'EUC_JP' ? q{U&"\6f22"} : $encoding eq 'LATIN1' ? q{U&"\00e4"} : '"key"';

	sql("CREATE DATABASE $name ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	$node->safe_psql($name, "CREATE EXTENSION dbopt CASCADE; CREATE VIEW v AS SELECT $text AS $key, 'b' || $text || 'ab' AS b, 'x' AS c");
	is(differences('SELECT * FROM v', '', $name), 'rows: 0 0', "in a database of encoding $encoding");
}

$node->stop;
done_testing();
