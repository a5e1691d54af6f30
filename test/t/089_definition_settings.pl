# A declared index means the same under whatever settings it is declared, built,
# compared or asked for: those of a client, of a role or of a database.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use Building;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('settings');
$node->init;
$node->append_conf(
	'postgresql.conf', qq{
shared_preload_libraries = 'dbopt'
max_worker_processes = 16
autovacuum = off
});
$node->start;
asking($node);

# Settings that change how constants, strings, names and operators are read, or
# how values become text.
my %odd = (
	'DateStyle' => 'SQL, DMY',
	'IntervalStyle' => 'sql_standard',
	'TimeZone' => 'Asia/Tokyo',
	'timezone_abbreviations' => 'Australia',
	'array_nulls' => 'off',
	'transform_null_equals' => 'on',
	'standard_conforming_strings' => 'off',
	'backslash_quote' => 'off',
	'extra_float_digits' => '-12',
	'bytea_output' => 'escape',
	'quote_all_identifiers' => 'on',
	'search_path' => 'odd');

# What is declared, and what it means.
my %definitions = (
	day => [ q{(id) WHERE day < '02/03/2026'}, q{'2026-02-03'::date} ],
	zone => [ q{(id) WHERE at < '2026-01-01 00:00'}, q{'2026-01-01 00:00:00+00'::timestamp with time zone} ],
	abbreviation => [ q{(id) WHERE at < '2026-01-01 00:00 EST'}, q{'2026-01-01 05:00:00+00'::timestamp with time zone} ],
	span => [ q{(id) WHERE span < '-1 2:03:04'}, q{'-1 days +02:03:04'::interval} ],
	list => [ q{(id) WHERE list <> '{NULL}'}, q{'{NULL}'::text[]} ],
	nulls => [ q{(id) WHERE name = NULL}, q{(name = NULL::text)} ],
	slash => [ q{(id) WHERE name <> 'a\b'}, q{'a\b'::text} ],
	quote => [ q{(id) WHERE name <> E'it\'s'}, q{'it''s'::text} ],
	float => [ q{(id) WHERE name <> (0.1::float8 + 0.2)::text}, q{(0.1)::double precision} ],
	bytes => [ q{(id) WHERE name <> ('\x01'::bytea)::text}, q{'\x01'::bytea} ],
	spelled => [ q{((name || (0.1::float8 + 0.2)::text))}, q{(0.1)::double precision} ]);

my $plain_session;
my $odd_session;

# One row of each definition.
sub declare_all
{
	my ($session, $table) = @_;

	$session->query_safe(qq{INSERT INTO public.dbopt_index (name, table_name, definition)
		SELECT '${table}_' || key, 'public.$table', value FROM pg_catalog.json_each_text(pg_catalog.current_setting('test.definitions')::json)});
	return;
}

# Both sessions see every index as it is declared, whoever has planned with it
# before, and say that it means what it should.
sub are_valid
{
	my ($table, $who) = @_;

	foreach my $session ([ 'plain', $plain_session ], [ 'odd', $odd_session ])
	{
		my ($settings, $asking) = @$session;

		$asking->query_safe("SELECT id FROM public.$table WHERE id OPERATOR(pg_catalog.=) 1");
		is($asking->query_safe(qq{SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', name, status, reason), ', ')
			FROM public.dbopt_index_status() WHERE table_name = 'public.$table' AND status <> 'valid'}), '',
			"built by $who: they are valid to a session of $settings settings");
	}
	foreach my $name (sort keys %definitions)
	{
		my $meant = $definitions{$name}->[1];

		like($plain_session->query_safe("SELECT pg_get_indexdef('${table}_$name'::regclass)"), qr/\Q$meant\E/, "built by $who: $name");
	}
	return;
}

sub oids
{
	my ($table) = @_;

	return $plain_session->query_safe("SELECT string_agg(indexrelid::text, ' ' ORDER BY indexrelid) FROM pg_index WHERE indrelid = '$table'::regclass");
}

my $json = join(', ', map { sprintf '"%s": "%s"', $_, $definitions{$_}->[0] =~ s/\\/\\\\/gr } sort keys %definitions);
sql(qq{
	CREATE EXTENSION dbopt CASCADE;
	CREATE SCHEMA odd;
	CREATE FUNCTION odd.odd_less(date, date) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT false';
	CREATE OPERATOR odd.< (LEFTARG = date, RIGHTARG = date, FUNCTION = odd.odd_less);
	CREATE TABLE here (id int, day date, at timestamptz, span interval, list text[], name text);
	INSERT INTO here SELECT i, '2026-01-01', '2026-01-01', '1 day', '{a}', 'a' FROM generate_series(1, 100) i;
	CREATE TABLE elsewhere AS TABLE here;
	CREATE TABLE plainly AS TABLE here;
	ALTER DATABASE postgres SET test.definitions = \$json\${$json}\$json\$;
});
$plain_session = $node->background_psql('postgres');
$plain_session->query_safe(q{SET TimeZone = 'GMT'});

# Those of the database, so that sessions of the pool have them, too.
sql(join(' ', map { "ALTER DATABASE postgres SET $_ = " . ($_ eq 'DateStyle' ? $odd{$_} : "'$odd{$_}'") . ';' } sort keys %odd));
$odd_session = $node->background_psql('postgres');
foreach my $setting (sort keys %odd)
{
	is($odd_session->query_safe("SHOW $setting"), $odd{$setting}, "$setting is odd");
}

# At once, by the caller.
declare_all($odd_session, 'here');
$odd_session->query_safe(q{CALL public.dbopt_ensure_indexes('public.here')});
are_valid('here', 'a caller of odd settings');
declare_all($plain_session, 'plainly');
$plain_session->query_safe(q{CALL dbopt_ensure_indexes('plainly')});
are_valid('plainly', 'a caller of plain settings');

# By a session of the pool.
declare_all($odd_session, 'elsewhere');
$plain_session->query_safe(q{SET dbopt.index_inline_pages = 0});
$plain_session->query_safe(q{CALL dbopt_ensure_indexes('elsewhere', true)});
are_valid('elsewhere', 'the pool');

# Nobody has anything to do any more.
foreach my $table ('here', 'plainly', 'elsewhere')
{
	my $oids = oids($table);

	$_->query_safe("CALL public.dbopt_ensure_indexes('public.$table', true)") foreach ($odd_session, $plain_session);
	is(oids($table), $oids, "$table: nothing is built again");
}

# A caller has his settings as they were.
foreach my $setting (sort keys %odd)
{
	is($odd_session->query_safe("SHOW $setting"), $odd{$setting}, "$setting is odd as before");
}
$odd_session->quit;
$plain_session->quit;
$node->stop;
done_testing();
