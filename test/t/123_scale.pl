# Many of everything: handlers, event types, events that wait when the server
# starts, dead letters that are replayed at once.  All is delivered once, and
# the memory of scheduler and sessions does not grow with what they have done.
#
# With DBOPT_SCALE=large in the environment there are ten times as many event
# types and a million events, which takes a minute or two.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $large = ($ENV{DBOPT_SCALE} // '') eq 'large';
my $handlers = 1_000;
my $types = $large ? 10_000 : 1_000;
my $events = $large ? 1_000_000 : 10_000;
my $more = $large ? 100_000 : 5_000;
my $node = PostgreSQL::Test::Cluster->new('scale');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'dbopt'
dbopt.max_handlers = @{[ $handlers + 10 ]}
dbopt.pool_min = 2
dbopt.pool_max = 2
log_statement = none
});
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

sub drained
{
	my ($what) = @_;

	is(sql(q{SELECT dbopt_drain('10min')}), 't', $what);
	return;
}

# What the processes of a type have allocated themselves, in kB: the most that
# one of them has.  Undefined where the system does not tell.
sub memory
{
	my ($type) = @_;
	my @sizes;

	foreach my $pid (split /\n/, sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt $type'"))
	{
		push @sizes, $1 if -r "/proc/$pid/status" && slurp_file("/proc/$pid/status") =~ /RssAnon:\s+(\d+)/;
	}
	return (sort { $b <=> $a } @sizes)[0];
}

my $last = 0;

# So many events, of all the types.
sub add
{
	my ($count) = @_;

	sql("INSERT INTO log SELECT n, 'H' || n % $handlers || '.' || n % $types FROM generate_series($last + 1, $last + $count) n");
	$last += $count;
	return;
}

sub each_once
{
	my ($what) = @_;

	is( sql(qq{SELECT count(*), count(DISTINCT id), bool_and(handler = 'H' || id % $handlers) FROM effects}),
		"$last|$last|t", "$what: each event once, to its handler");
	return;
}

# Each handler has its share of the types, by the beginning of their names, and
# takes its events by the array.
sql(qq{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_pause();
	CREATE TABLE log (id int PRIMARY KEY, event_type text NOT NULL);
	SELECT dbopt_attach_events('log');
	CREATE TABLE effects (handler text, id int);
	CREATE TABLE switch (fails boolean);
	INSERT INTO switch VALUES (false);
	CREATE FUNCTION handle(log[]) RETURNS void LANGUAGE sql
		AS \$\$ INSERT INTO effects SELECT split_part(event_type, '.', 1), id FROM unnest(\$1) \$\$;
	CREATE FUNCTION fail(log) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		IF (SELECT fails FROM switch) THEN RAISE 'no' USING ERRCODE = 'check_violation'; END IF;
		INSERT INTO effects VALUES ('fail', \$1.id);
	END \$\$;
	DO \$\$
	BEGIN
		FOR n IN 0 .. $handlers - 1 LOOP
			PERFORM dbopt_register_handler('h' || n, 'H' || n || '.*', 'handle(log[])', start_from => 'beginning');
			COMMIT;
		END LOOP;
	END \$\$;
	SELECT dbopt_register_handler('fail', 'FAIL', 'fail(log)')});

# They wait when the server starts.
add($events);
$node->restart;
my $offset = -s $node->logfile;
sql('SELECT dbopt_resume()');
drained("$events events of $types types, for $handlers handlers");
each_once('at start');
my %before = map { $_ => memory($_) } qw(scheduler session);
foreach my $round (1 .. 3)
{
	add($more);
	drained("$more more, round $round");
}
each_once('afterwards');
foreach my $type (qw(scheduler session))
{
	my $now = memory($type);

	SKIP:
	{
		skip 'the system does not tell the size of processes', 1 unless defined $now && defined $before{$type};
		note("$type: $before{$type} kB, then $now kB");
		cmp_ok($now, '<', 1.5 * $before{$type} + 2048, "... do not make a $type grow");
	}
}

# One event is nothing to all the others.
my $jobs = 'SELECT sum(jobs_done) FROM dbopt_pool_sessions()';
my $done = sql($jobs);
add(1);
drained('one event');
each_once('after one');
cmp_ok(sql($jobs) - $done, '<', 10, "... does not have somebody look for events of all $types types");

# Whoever looks at it gets an answer.
is(sql('SELECT count(*) FROM dbopt_retry_stats()'), $handlers + 1, 'statistics of all handlers');
is(sql('SELECT count(*) FROM dbopt_backlog() WHERE waiting = 0'), $types + 1, 'nothing waits, of any type');
cmp_ok(sql('SELECT length(dbopt_prometheus())'), '>', 100 * $handlers, 'metrics of all handlers');
is(sql(q{SELECT status FROM dbopt_health() WHERE check_name = 'overall'}), 'healthy', 'all is well');

# A thousand dead letters are replayed in one call.
sql(q{UPDATE switch SET fails = true; INSERT INTO log SELECT -n, 'FAIL' FROM generate_series(1, 1000) n});
drained('a thousand events fail');
is(sql('SELECT count(*) FROM dbopt_dead_letters'), '1000', 'and are dead letters');
sql('UPDATE switch SET fails = false');
is(sql(q{SELECT dbopt_replay_dead_letters('fail')}), '1000', 'they are replayed');
drained('at once');
is(sql(q{SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM dbopt_dead_letter) FROM effects WHERE handler = 'fail'}),
	'1000|1000|0', 'and delivered, once');

# Before the end: a launcher may hear of its scheduler's first.
is(join("\n", grep { /TRAP|PANIC|a job of handler|scheduler for database \d+ has ended/ } split /\n/, slurp_file($node->logfile, $offset)),
	'', 'nothing has failed');

$node->stop;
done_testing();
