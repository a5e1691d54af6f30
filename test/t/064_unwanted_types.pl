# Event types that no handler would run wake nobody, and are delivered like any
# others once a handler wants them.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $inserts = 300;
my $node = PostgreSQL::Test::Cluster->new('unwanted');
$node->init;
$node->append_conf(
	'postgresql.conf', qq(
shared_preload_libraries = 'dbopt'
autovacuum = off
));
$node->start;

$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE TABLE done (event_type text);
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE sql
		AS 'INSERT INTO done VALUES (e.event_type)';
	CREATE PROCEDURE put(type text, count int) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. count LOOP
			INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
			VALUES (type, 'test', dbopt_uuid_v7(), '{}');
			COMMIT;
		END LOOP;
	END $$;
});

# How often the scheduler has come to rest.
sub sleeps
{
	my $pid = $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'"
	);

	return slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m
	  ? $1
	  : die 'the scheduler has no count of its context switches';
}

# The first insert is what the scheduler learns from that nobody wants the type.
sub inserts_wake_nobody
{
	my ($type, $name) = @_;
	my $before;

	$node->safe_psql('postgres', "CALL put('$type', 1)");
	$node->safe_psql('postgres', 'SELECT dbopt_drain()');
	$before = sleeps();
	$node->safe_psql('postgres', "CALL put('$type', $inserts)");
	cmp_ok(sleeps() - $before, '<', $inserts / 10, $name);
}

sub delivered
{
	my ($type, $count, $name) = @_;

	$node->safe_psql('postgres', 'SELECT dbopt_drain()');
	is( $node->safe_psql(
			'postgres', "SELECT count(*) FROM done WHERE event_type = '$type'"
		),
		$count, $name);
}

SKIP:
{
	skip 'there is no /proc', 6 unless -e '/proc/self/status';

	inserts_wake_nobody('A', 'a type without a handler wakes nobody');

	$node->safe_psql('postgres',
		q{SELECT dbopt_register_handler('handle', 'A', 'handle(events)')});
	$node->safe_psql('postgres', q{CALL put('A', 1)});
	delivered('A', 1, 'it is delivered once there is a handler');

	$node->safe_psql('postgres', q{SELECT dbopt_pause_handler('handle')});
	inserts_wake_nobody('A', "a paused handler's type wakes nobody");
	$node->safe_psql('postgres', q{SELECT dbopt_resume_handler('handle')});
	delivered('A', 2 + $inserts, 'it is delivered once the handler goes on');

	$node->safe_psql('postgres', q{SELECT dbopt_pause()});
	inserts_wake_nobody('A', 'a paused database wakes nobody');
	$node->safe_psql('postgres', q{SELECT dbopt_resume()});
	delivered('A', 3 + 2 * $inserts, 'it is delivered once that goes on');
}

# More types than can be remembered, each of them written before anybody wants
# it and after that.
$node->safe_psql(
	'postgres', q{
	DO $$
	BEGIN
		FOR i IN 1 .. 1000 LOOP
			CALL put('T' || i, 1);
		END LOOP;
	END $$;
	SELECT dbopt_drain();
	SELECT dbopt_register_handler('late', 'T*', 'handle(events)');
	DO $$
	BEGIN
		FOR i IN 1 .. 1000 LOOP
			CALL put('T' || i, 1);
		END LOOP;
	END $$;
	SELECT dbopt_drain();
});
is( $node->safe_psql(
		'postgres',
		q{SELECT count(*), count(DISTINCT event_type) FROM done WHERE event_type LIKE 'T%'}
	),
	'1000|1000',
	'1,000 types are delivered from the time on that a handler wants them');

$node->stop;
done_testing();
