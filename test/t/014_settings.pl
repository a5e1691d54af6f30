# Settings are what the README says: their names, defaults, units and contexts,
# and the limits of each environment, which a reload changes.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('settings');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nmax_worker_processes = 60");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION dbopt CASCADE');

# The README's tables, without decoration.
my $readme = slurp_file('README.md');
my %contexts = (reload => 'sighup', restart => 'postmaster', superusers => 'superuser');
my %units = ('ms' => 'ms', '8 kB' => '8kB');
my @documented;
my %limits;

while ($readme =~ /^\| `(dbopt\.\w+)` \| `?([^|`]+)`? \| ([^|]*?) ?\| (\w+) \| /mg)
{
	push @documented, join ' ', $1, $2, $units{$3} // '-', $contexts{$4} // $4;
}
while ($readme =~ /^\| `(\w+)` \| (\d+) \| (\d+) \| \d+ (?:s|min) \| /mg)
{
	$limits{$1} = "$1|$2|$3";
}
is( $node->safe_psql('postgres', q{
		SELECT string_agg(concat_ws(' ', name, trim(trailing ' ' FROM boot_val), coalesce(unit, '-'), context), E'\n' ORDER BY name)
		FROM pg_settings WHERE name LIKE 'dbopt.%'}),
	join("\n", sort map { s/ +/ /gr } @documented),
	'settings are as documented');

# ---- environments ---------------------------------------------------------

my $show = 'SELECT environment, min, max FROM dbopt_pool_stats()';

sub set
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET $_") foreach @_;
	$node->reload;
	return;
}

is(join(' ', sort keys %limits), 'development high_load production staging test', 'the README has five environments');
is($node->safe_psql('postgres', $show), $limits{development}, 'development is the default one');
foreach my $environment (sort keys %limits)
{
	set("dbopt.environment = '$environment'");
	ok($node->poll_query_until('postgres', $show, $limits{$environment}), "the limits of $environment, after a reload")
	  or diag($node->safe_psql('postgres', $show));
}

# So many sessions are kept for the roles that handlers run as.
$node->safe_psql('postgres', q{
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE FUNCTION handle(events) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	SELECT dbopt_register_handler('handle', '*', 'handle(events)')});
set(q{dbopt.environment = 'staging'});
ok( $node->poll_query_until('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND state = 'idle'}, '5'),
	'staging keeps five sessions warm');
set('dbopt.pool_min = 2', 'dbopt.pool_max = 7');
ok($node->poll_query_until('postgres', $show, 'staging|2|7'), 'limits of their own come first');
set('dbopt.pool_min = -1', 'dbopt.pool_max = -1');
ok($node->poll_query_until('postgres', $show, $limits{staging}), '... until they are taken back');

my ($status, $out, $error) = $node->psql('postgres', q{\set VERBOSITY verbose
	ALTER SYSTEM SET dbopt.environment = 'moon'});
like($error, qr/ERROR:  22023: .*HINT:  Available values: development, test, staging, production, high_load/s, 'no other environment is known');

$node->stop;
done_testing();
