# Sessions that outlive their scheduler, as those at work for callers and at
# builds do while the extension is updated, count against the next one's limits
# as its own do.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('pool_heirs');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	max_worker_processes = 16
	fsync = off
	autovacuum = off
	dbopt.pool_min = 0
	dbopt.pool_max = 3
	dbopt.pool_reserved = 1
	dbopt.pool_acquire_timeout = '300 s'
	dbopt.index_inline_pages = 0
});
$node->start;
asking($node);

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE ROLE app LOGIN CONNECTION LIMIT 1;
	CREATE ROLE other LOGIN;
	GRANT EXECUTE ON FUNCTION dbopt_with_connection(text, text[]) TO app, other;
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE TABLE done (id uuid);
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE sql AS $$INSERT INTO done VALUES (e.id)$$;
	SELECT dbopt_register_handler('handle', '*', 'handle(events)');
	CREATE TABLE things (id int);
});

my $scheduler = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'};

sub replace_scheduler
{
	my $pid = sql($scheduler);

	sql("SELECT pg_terminate_backend($pid)");
	wait_for("SELECT pid <> $pid FROM ($scheduler) s", 'there is another scheduler');
	return;
}

sub is_delivered
{
	my ($name) = @_;

	sql(q{INSERT INTO events (event_type, aggregate_type, aggregate_id, data) VALUES ('a', 'test', dbopt_uuid_v7(), '{}')});
	is(sql("SELECT dbopt_drain('120 s')"), 't', $name);
	return;
}

# ---- callers --------------------------------------------------------------

sub begin_call
{
	my ($role) = @_;
	my $caller = asked();

	$caller->query_safe("SET SESSION AUTHORIZATION $role");
	$caller->query_until(qr/called/,
		"\\echo called\nSELECT dbopt_with_connection('SELECT 0 FROM pg_advisory_xact_lock_shared(1)');\n");
	return $caller;
}

my $calls = q{SELECT string_agg(role, ' ' ORDER BY role) FROM dbopt_pool_sessions() WHERE job = 'sql'};
my $lock = asked();
$lock->query_safe('SELECT pg_advisory_lock(1)');
my @callers = map { begin_call($_) } qw(app other);
wait_for("($calls) = 'app other'", 'callers have the sessions that they may have');
replace_scheduler();
push @callers, map { begin_call($_) } qw(app other);
wait_for('(SELECT waiting = 2 FROM dbopt_pool_stats())', 'more of them wait');
is_delivered('events have the one that is kept for them');
is(sql($calls), 'app other', 'and no role has more than its limit');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
$_->quit foreach @callers;
wait_for("($calls) IS NULL", 'all are served in the end');

# ---- a build --------------------------------------------------------------

set_reload('dbopt.auto_index = on');
set_reload('dbopt.pool_reserved = 0');
set_reload('dbopt.pool_max = 1');
my $writer = asked();
$writer->query_safe('BEGIN; INSERT INTO things VALUES (1)');
sql(q{INSERT INTO dbopt_index (name, table_name, definition) VALUES ('things_id', 'things', '(id)')});
my $builds = q{(SELECT count(*) = 1 FROM dbopt_pool_sessions() WHERE job = 'index' AND state = 'busy')};
wait_for($builds, 'an index is being built');
is_delivered('its session comes on top of those of events');
replace_scheduler();
is_delivered('... also when its scheduler has gone');
is(sql(q{SELECT dbopt_with_connection('SELECT 1')}), '{"?column?": 1}', '... and of callers');
is(sql("SELECT $builds"), 't', '... while it goes on');
$writer->query_safe('COMMIT');
wait_for(q{(SELECT status = 'valid' FROM dbopt_index_status() WHERE name = 'things_id')}, 'it is built');
$_->quit foreach $lock, $writer;

done_testing();
