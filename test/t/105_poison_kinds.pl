# Handlers that run out of stack, of memory, and of what a string may be, or
# are killed for their memory: what is an error is a failure as any other, and
# what ends the server is given up; everything else is delivered.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Crashing;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('kinds');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
restart_after_crash = on
max_worker_processes = 24
dbopt.pool_max = 4
log_statement = none
});
$node->start;

# The limit of a session's memory is set from outside, by the program that the
# handler starts, as the system's administrator might set it.
my $limits = system('prlimit --pid $$ --as > /dev/null 2>&1') == 0;

$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	CREATE TABLE effects (id uuid);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('thrice', 3, '300 ms', '300 ms', 'none', true, 1000), ('twice', 2, '300 ms', '300 ms', 'none', true, 1000);
	CREATE FUNCTION recurse(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1 + recurse(n + 1); END $$;
	CREATE FUNCTION fill(n int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		size int := 4000000;
	BEGIN
		WHILE size > 200 LOOP
			BEGIN
				PERFORM set_config('dummy.n' || n, repeat('x', size), false);
				n := n + 1;
			EXCEPTION WHEN out_of_memory THEN
				size := size / 2;
			END;
		END LOOP;
	END $$;
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		large text;
	BEGIN
		INSERT INTO effects VALUES (e.id);
		CASE e.data ->> 'act'
			WHEN 'stack' THEN PERFORM recurse(1);
			WHEN 'string' THEN large := repeat('x', 1073741824);
			WHEN 'cell' THEN large := repeat(repeat('x', 1000000), 600) || repeat(repeat('x', 1000000), 600);
			WHEN 'memory' THEN
				COPY (SELECT 1) TO PROGRAM 'prlimit --pid $PPID --as=100000000:';
				large := repeat(repeat('x', 1000000), 500);
			WHEN 'starved' THEN
				-- What is left is taken, so that nothing can be written down, either.
				COPY (SELECT 1) TO PROGRAM 'prlimit --pid $PPID --as=1:';
				PERFORM fill(1);
			WHEN 'killed' THEN
				-- As the kernel does when it finds no other way to get memory.
				COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID';
				PERFORM pg_sleep(60); /* handler */
			ELSE NULL;
		END CASE;
	END $$;
	CREATE FUNCTION slow(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES (e.id);
		PERFORM pg_sleep(0.5); /* handler */
	END $$;
	SELECT dbopt_register_handler('handle', 'WORK', 'handle(log)', policy => 'thrice'),
		dbopt_register_handler('slow', 'SLOW', 'slow(log)', policy => 'thrice', chunk_size => 1);
});

# One event with the act, among others of its chunk, and some that are slow.
sub deliver
{
	my ($act) = @_;

	$node->safe_psql('postgres', qq{
		INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		SELECT 'SLOW', 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, 2);
		INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		SELECT 'WORK', 'a', dbopt_uuid_v7(), jsonb_build_object('act', CASE n WHEN 7 THEN '$act' ELSE 'none' END)
		FROM generate_series(1, 30) n});
	return;
}

sub given_up
{
	my ($act, $expected) = @_;
	my $dead = qq{SELECT attempts, error_code, error_message FROM dbopt_dead_letters
		JOIN log ON id::text = event_id WHERE data ->> 'act' = '$act'};

	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($dead) x"), "$act: given up")
	  or diag $node->safe_psql('postgres', 'SELECT * FROM dbopt_pending_retries; SELECT * FROM dbopt_chunk');
	like($node->safe_psql('postgres', $dead), $expected, "$act: the error tells the truth");
	return;
}

# Sessions that a handler has left without memory are gone, for new ones.
sub end_sessions
{
	$node->safe_psql('postgres',
		"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'dbopt session'");
	return;
}

my $offset = -s $node->logfile;
deliver($_) foreach qw(stack string cell);
given_up('stack', qr/^\d\|54001\|stack depth limit exceeded$/);
given_up('string', qr/^\d\|54000\|requested length too large$/);
given_up('cell', qr/^\d\|XX000\|invalid memory alloc request size 1200000004$/);

SKIP:
{
	skip 'prlimit cannot be used here', 5 unless $limits;
	deliver('memory');
	# So little is left that the program may not start the next time, or its shell.
	given_up('memory', qr/^3\|(53200\|(out of memory|could not execute command .*: Cannot allocate memory)|XX000\|could not close pipe .*: Broken pipe)$/);
	unlike(slurp_file($node->logfile, $offset), qr/terminated by signal/, 'none of them has cost the server anything');

	# The server's own code is not proof against that everywhere, and may crash.
	# What the session had allocated before is sometimes enough to write down
	# that such an event was delivered.  Then that has happened, and another one
	# is tried.
	foreach (1 .. 30)
	{
		end_sessions();
		deliver('starved');
		$node->poll_query_until('postgres', q{
			SELECT NOT EXISTS (SELECT FROM log WHERE data ->> 'act' = 'starved' AND id NOT IN (SELECT id FROM effects)
				AND id::text NOT IN (SELECT event_id FROM dbopt_dead_letters))})
		  or last;
		last if $node->safe_psql('postgres', q{
			SELECT EXISTS (SELECT FROM log JOIN dbopt_dead_letters ON id::text = event_id WHERE data ->> 'act' = 'starved')}) eq 't';
	}
	given_up('starved', qr/^3\|(53200\|(out of memory|handler "handle" left its session without memory when it ran this event|could not execute command .*)|57P0[12]\|.* while .* ran this event.*)$/);
	end_sessions();
}

# Its attempts, and when the server went down for each of them.
$offset = -s $node->logfile;
eval { deliver('killed') };	# psql may still be there when the server crashes
given_up('killed', qr/^3\|57P02\|the server crashed while handler "handle" ran this event and no other handler ran$/);
is(scalar(() = slurp_file($node->logfile, $offset) =~ /was terminated by signal 9/g), 3, 'killed: as many crashes as attempts');

# It may be one of many large events, which together are more than a session may
# have in memory when it makes single ones of them.
SKIP:
{
	skip 'prlimit cannot be used here', 3 unless $limits;
	$node->safe_psql('postgres', q{
		SELECT dbopt_register_handler('large', 'LARGE', 'handle(log)', policy => 'twice', max_concurrency => 1);
		INSERT INTO log (event_type, aggregate_type, aggregate_id, data) SELECT 'LARGE', 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, 3000);
		SELECT dbopt_drain('60 s')});
	$node->safe_psql('postgres', q{
		SELECT dbopt_pause_handler('large');
		INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		SELECT 'LARGE', 'a', dbopt_uuid_v7(), jsonb_build_object('act', CASE n WHEN 300 THEN 'killed' ELSE 'none' END, 'filler', repeat('x', 2000000))
		FROM generate_series(1, 300) n});
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	system_or_bail('prlimit', '--pid', $postmaster, '--as=600000000:');
	$offset = -s $node->logfile;
	write_poison($node, 'postgres', q{SELECT dbopt_resume_handler('large')});
	my $dead = q{SELECT attempts, error_code FROM dbopt_dead_letters WHERE handler = 'large'};
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($dead) x"), 'one of many large events: given up')
	  or diag $node->safe_psql('postgres', 'SELECT * FROM dbopt_chunk; SELECT count(*) FROM dbopt_retry_queue');
	is($node->safe_psql('postgres', $dead), '2|57P02', '... after two crashes');
	unlike(slurp_file($node->logfile, $offset), qr/a job of handler .* failed/, '... for which there was enough memory');
	system_or_bail('prlimit', '--pid', $postmaster, '--as=unlimited:');
}

ok($node->poll_query_until('postgres', "SELECT dbopt_drain('60 s')"), 'drained');
is( $node->safe_psql('postgres', q{
	SELECT count(*) FILTER (WHERE x.id IS NULL) = (SELECT count(*) FROM dbopt_dead_letters) AS all_others,
		count(*) FILTER (WHERE x.n > 1) AS doubled,
		(SELECT count(*) FROM dbopt_dead_letters WHERE handler = 'slow') AS innocents
	FROM log LEFT JOIN (SELECT id, count(*) AS n FROM effects GROUP BY id) x USING (id)}),
	't|0|0', 'all others are delivered, once, and none is given up for them');
$node->stop;
done_testing();
