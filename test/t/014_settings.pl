# Settings are what the README says: their names, defaults, units and contexts,
# and the limits of each environment, which a reload changes.  Each of the
# pool's timeouts does what it is for.
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
my %timeouts;		# acquire, create and idle, in seconds

while ($readme =~ /^\| `(dbopt\.\w+)` \| `?([^|`]+)`? \| ([^|]*?) ?\| (\w+) \| /mg)
{
	push @documented, join ' ', $1, $2, $units{$3} // '-', $contexts{$4} // $4;
}
while ($readme =~ /^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) (s|min) \| (\d+) s \| (\d+) s \|$/mg)
{
	$limits{$1} = "$1|$2|$3";
	$timeouts{$1} = join '|', $6, $7, $4 * ($5 eq 'min' ? 60 : 1);
}
is( $node->safe_psql('postgres', q{
		SELECT string_agg(concat_ws(' ', name, trim(trailing ' ' FROM boot_val), coalesce(unit, '-'), context), E'\n' ORDER BY name)
		FROM pg_settings WHERE name LIKE 'dbopt.%'}),
	join("\n", sort map { s/ +/ /gr } @documented),
	'settings are as documented');

# ---- environments ---------------------------------------------------------

my $show = 'SELECT environment, min, max FROM dbopt_pool_stats()';
my $show_timeouts = q{
	SELECT string_agg(value::text, '|' ORDER BY name) FROM dbopt_metrics() WHERE name LIKE 'database.pool.%timeout'};

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
	ok($node->poll_query_until('postgres', $show_timeouts, $timeouts{$environment}), '... and its timeouts')
	  or diag($node->safe_psql('postgres', $show_timeouts));
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

set('dbopt.pool_acquire_timeout = 1500', 'dbopt.pool_create_timeout = 2500', 'dbopt.pool_idle_timeout = 3500');
ok($node->poll_query_until('postgres', $show_timeouts, '1.5|2.5|3.5'), 'timeouts of their own, too');
set('dbopt.pool_acquire_timeout = -1', 'dbopt.pool_create_timeout = -1', 'dbopt.pool_idle_timeout = -1');
ok($node->poll_query_until('postgres', $show_timeouts, $timeouts{staging}), '... until they are taken back');

my ($status, $out, $error) = $node->psql('postgres', q{\set VERBOSITY verbose
	ALTER SYSTEM SET dbopt.environment = 'moon'});
like($error, qr/ERROR:  22023: .*HINT:  Available values: development, test, staging, production, high_load/s, 'no other environment is known');

# ---- timeouts -------------------------------------------------------------

my $sessions = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt session'};

# Seconds by the server's clock since when the second of three sessions has been
# idle, until two of them have ended: one of these has been idle no longer, and
# so has been kept idle for as long at most.
sub kept_idle
{
	set('dbopt.pool_idle_timeout = 3600000', 'dbopt.pool_min = 3');
	ok($node->poll_query_until('postgres', "$sessions AND state = 'idle'", '3'), 'three sessions are idle');

	my $since = $node->safe_psql('postgres', 'SELECT since FROM dbopt_pool_sessions() ORDER BY since OFFSET 1 LIMIT 1');
	set('dbopt.pool_min = 1', @_);
	ok($node->poll_query_until('postgres', $sessions, '1'), '... of which those end that are not needed');
	return $node->safe_psql('postgres', "SELECT extract(epoch FROM clock_timestamp() - '$since')");
}

set(q{dbopt.environment = 'test'});
cmp_ok(kept_idle('dbopt.pool_idle_timeout = -1'), '>=', 5, 'the environment test has kept them for 5 s');
set(q{dbopt.environment = 'production'});
cmp_ok(kept_idle('dbopt.pool_idle_timeout = 100'), '<', 300, 'a setting of its own comes before the 5 min of production');

# The only session is at work for another caller, who has waited for it as long
# as it took.
set('dbopt.pool_max = 1');
my $caller = $node->background_psql('postgres', on_error_stop => 0);
$caller->query_until(qr/called/, qq{\\echo called\nSELECT dbopt_with_connection('SELECT pg_sleep(600) -- work');\n});
ok($node->poll_query_until('postgres', q{SELECT used = 1 FROM dbopt_pool_stats()}), 'a caller has the only session');
set('dbopt.pool_acquire_timeout = 150');
ok($node->poll_query_until('postgres', 'SHOW dbopt.pool_acquire_timeout', '150ms'), 'others may wait for 150 ms');
my $begun = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
(undef, undef, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT dbopt_with_connection('SELECT 1')");
like($error, qr/ERROR:  53300: no pool session was available within 150 ms.*HINT:  /s, 'another one waits for dbopt.pool_acquire_timeout');
is($node->safe_psql('postgres', "SELECT clock_timestamp() - '$begun' BETWEEN '150 ms' AND '59 s'"), 't', '... no shorter, nor for the 60 s of production');
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM dbopt_pool_sessions() WHERE state = 'busy'});
ok($node->poll_query_until('postgres', q{SELECT used = 0 FROM dbopt_pool_stats()}), 'the session has been ended');
$caller->quit;

# The session kept warm takes 3 s to connect, which is longer than it may.
my $log = -s $node->logfile;
set('dbopt.pool_create_timeout = 100', 'post_auth_delay = 3');
$node->restart;
ok(eval { $node->wait_for_log(qr/a new dbopt session has not connected in time, and is ended/, $log); 1 },
	'a session that does not connect within dbopt.pool_create_timeout is ended');

$node->stop('immediate');
done_testing();
