# A caller that has gone, or has been cancelled, while its session could not hear
# of it: what the statement has done by then is not committed.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestModule;

my $dir = build_module();
my $node = PostgreSQL::Test::Cluster->new('gone_callers');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	fsync = off
	dbopt.pool_min = 0
	dbopt.pool_max = 1
});
$node->start;
asking($node);

# It computes until there is a certain file, and does not look for interrupts.
sql(qq{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE events (id int PRIMARY KEY, event_type text NOT NULL, act text NOT NULL, arg text NOT NULL DEFAULT '');
	CREATE FUNCTION handle(events) RETURNS int LANGUAGE c STRICT AS '$dir/dbopt_test.so', 'handle_row';
	CREATE TABLE done (id int);
	CREATE TABLE note (t text);
});

my %statements = (
	'one statement' => q{DO 'DECLARE x int; BEGIN INSERT INTO note VALUES (''done''); x := handle(ROW(1, ''E'', ''compute_until'', ''%s'')::events); END'},
	'several statements' => q{INSERT INTO note VALUES ('done'); DO 'DECLARE x int; BEGIN x := handle(ROW(1, ''E'', ''compute_until'', ''%s'')::events); END'});
my $files = 0;

# Its caller ends by this function of SQL, or, without one, when the file is there.
sub call
{
	my ($statement, $end) = @_;
	my $file = "$dir/file" . $files++;
	my $caller = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $caller->query_safe('SELECT pg_backend_pid()');

	$caller->query_until(qr/called/, sprintf("\\echo called\nSELECT dbopt_with_connection(\$q\$$statement\$q\$);\n", $file));
	$node->poll_query_until('postgres', "SELECT size IS NOT NULL FROM pg_stat_file('$file.begun', true)") or die 'it does not begin';
	if (defined $end)
	{
		sql("SELECT $end($pid)");
		$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND state = 'active'")
		  or die 'the caller does not end';
	}
	append_to_file($file, '');
	wait_for('(SELECT used = 0 FROM dbopt_pool_stats())', 'the session is free');
	eval { $caller->quit };
	return sql(q{SELECT count(*) FROM note});
}

foreach my $name (sort keys %statements)
{
	is(call($statements{$name}), 1, "$name: done where the caller waits for it");
	sql('TRUNCATE note');
	is(call($statements{$name}, 'pg_cancel_backend'), 0, '... not where it has been cancelled');
	is(call($statements{$name}, 'pg_terminate_backend'), 0, '... nor where it has gone');
}

$node->stop;
done_testing();
