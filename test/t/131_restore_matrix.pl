# Dump and restore, in every way that pg_dump offers, into clusters that have
# had far fewer and far more transactions: what was not delivered is delivered
# after dbopt_resume(), what was delivered is not, what comes new is, and
# nothing runs before.  The same for CREATE DATABASE TEMPLATE.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir;

# A cluster that has been through some wraparounds of transaction ids.
sub cluster
{
	my ($name, $epoch) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nmax_worker_processes = 24");
	command_ok([ 'pg_resetwal', '-e', $epoch, '-D', $node->data_dir ], "$name: in epoch $epoch");
	$node->start;
	$node->safe_psql('postgres', 'CREATE ROLE writer');
	return $node;
}

my $origin = cluster('origin', 3);
$origin->safe_psql('postgres', 'CREATE DATABASE app');
$origin->safe_psql('app', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	SELECT dbopt_create_events('marked', true);
	GRANT SELECT, INSERT ON log TO writer;
	CREATE TABLE parts (id int, day int, event_type text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
	CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
	CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
	INSERT INTO parts VALUES (0, 1, 'EARLY');
	SELECT dbopt_attach_events('parts', 'id');
	CREATE TABLE effects (n bigserial, handler text, id text);
	CREATE TABLE switches (failing boolean);
	INSERT INTO switches VALUES (true);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('again', 1000, '1 s', '1 s', 'none', true, 1000000);
	CREATE FUNCTION every(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.effects (handler, id) VALUES ('every', e.id);
		IF e.event_type = 'SLOW' THEN
			PERFORM pg_advisory_xact_lock(1);
		END IF;
	END $$;
	CREATE FUNCTION fails(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.effects (handler, id) VALUES ('fails', e.id);
		IF (SELECT failing FROM public.switches) THEN RAISE 'later'; END IF;
	END $$;
	CREATE FUNCTION dies(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.effects (handler, id) VALUES ('dies', e.id);
		IF (SELECT failing FROM public.switches) THEN RAISE division_by_zero; END IF;
	END $$;
	CREATE FUNCTION in_order(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.effects (handler, id) VALUES ('in_order', e.id);
		IF (SELECT failing FROM public.switches) AND e.aggregate_version = 2 THEN RAISE 'later'; END IF;
	END $$;
	CREATE FUNCTION marks(e marked) RETURNS void LANGUAGE sql AS $$
		INSERT INTO public.effects (handler, id) VALUES ('marks', e.id) $$;
	CREATE FUNCTION parted(e parts[]) RETURNS void LANGUAGE sql AS $$
		INSERT INTO public.effects (handler, id) SELECT 'parted', id FROM unnest(e) $$;
	SELECT dbopt_register_handler('every', '*', 'every(log)', events => 'log'),
		dbopt_register_handler('fails', 'FAILS', 'fails(log)', events => 'log', policy => 'again'),
		dbopt_register_handler('dies', 'DIES', 'dies(log)', events => 'log'),
		dbopt_register_handler('in_order', 'ORDERED', 'in_order(log)', events => 'log', policy => 'again', ordered => true),
		dbopt_register_handler('marks', '*', 'marks(marked)', events => 'marked'),
		dbopt_register_handler('parted', '*', 'parted(parts[])', events => 'parts');
	-- Some events of each kind.
	CREATE FUNCTION write(n int) RETURNS void LANGUAGE sql AS $$
		INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
			SELECT t, 'a', dbopt_uuid_v7(), '{}' FROM unnest('{A,B,HOLE,FAILS,DIES}'::text[]) t, generate_series(1, 3);
		INSERT INTO log (event_type, aggregate_type, aggregate_id, aggregate_version, data)
			SELECT 'ORDERED', 'o', ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, v, '{}' FROM generate_series(1, 3) v;
		INSERT INTO marked (event_type, aggregate_type, aggregate_id, data)
			SELECT t, 'a', dbopt_uuid_v7(), '{}' FROM unnest('{A,B}'::text[]) t, generate_series(1, 3);
		INSERT INTO parts SELECT 10 * n + i, 4 * i, 'P' FROM generate_series(1, 3) i;
	$$;
});

# Delivered.  One transaction is open meanwhile, which commits when nothing is
# delivered any more, and one that never does: both are holes.
my @open = map { $origin->background_psql('app') } 1 .. 2;
$_->query_safe(q{BEGIN; INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
	VALUES ('HOLE', 'a', dbopt_uuid_v7(), '{}')}) foreach @open;
$origin->safe_psql('app', 'SELECT write(1)');
my $settled = q{
	SELECT (SELECT count(*) FROM effects WHERE handler IN ('every', 'marks', 'parted')) = 18 + 6 + 3
		AND (SELECT count(*) FROM dbopt_dead_letter) = 3 AND (SELECT count(*) FROM dbopt_retry_queue) >= 5};
ok($origin->poll_query_until('app', $settled), 'all but the failing are delivered');

# In flight.
my $blocker = $origin->background_psql('app');
$blocker->query_safe('SELECT pg_advisory_lock(1)');
$origin->safe_psql('app', q{INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
	VALUES ('SLOW', 'a', dbopt_uuid_v7(), '{}')});
ok( $origin->poll_query_until('app',
		"SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"),
	'one is in flight');

# Waiting.
$origin->safe_psql('app', 'SELECT dbopt_pause()');
$open[0]->query_safe('COMMIT');
$origin->safe_psql('app', 'SELECT write(2)');
is( $origin->safe_psql('app', q{
		SELECT (SELECT count(*) FROM dbopt_chunk) >= 1, count(*) FILTER (WHERE cardinality(holes) >= 2) >= 1
		  FROM dbopt_cursor_version}),
	't|t',
	'there are a chunk and holes');

my %files = (plain => "$directory/plain.sql", custom => "$directory/custom.dump", directory => "$directory/directory");
command_ok([ 'pg_dump', '-f', $files{plain}, $origin->connstr('app') ], 'dumped as SQL');
command_ok([ 'pg_dump', '-Fc', '-f', $files{custom}, $origin->connstr('app') ], 'dumped as an archive');
command_ok([ 'pg_dump', '-Fd', '-f', $files{directory}, $origin->connstr('app') ], 'dumped as a directory');

# ---- what must be so ----

# Each event once but for the dead letters, ordered ones in their order.
my $compared = q{
	WITH wanted(handler, id) AS (
		SELECT 'every', id::text FROM log UNION ALL SELECT 'fails', id::text FROM log WHERE event_type = 'FAILS'
		UNION ALL SELECT 'dies', id::text FROM log WHERE event_type = 'DIES'
		UNION ALL SELECT 'in_order', id::text FROM log WHERE event_type = 'ORDERED'
		UNION ALL SELECT 'marks', id::text FROM marked
		UNION ALL SELECT 'parted', id::text FROM parts WHERE id > 0),
	had AS (SELECT handler, id, count(*) AS n FROM effects WHERE id <> '0' GROUP BY 1, 2)
	SELECT handler, count(*) FILTER (WHERE n IS NULL) AS missing, count(*) FILTER (WHERE n > 1) AS doubled,
		count(*) FILTER (WHERE committed IS NULL) AS invented
	  FROM (SELECT handler, id, true AS committed FROM wanted) w FULL JOIN had USING (handler, id) GROUP BY 1 ORDER BY 1};

sub check_copy
{
	my ($node, $database, $what, $restamped) = @_;
	my $before = $node->safe_psql($database, 'SELECT count(*) FROM effects');

	ok( $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity
			WHERE backend_type = 'dbopt scheduler' AND datname = '$database'"),
		"$what: there is a scheduler");
	$node->safe_psql($database, 'SELECT write(3)');
	ok( $node->wait_for_log(
			qr/dbopt does not run in database "$database": it was restored or copied.*\n.*HINT:.*dbopt_resume\(\)/),
		"$what: the log says why nothing runs");
	like($node->safe_psql($database, "SELECT detail FROM dbopt_health() WHERE check_name = 'positions'"),
		qr/this database was restored or copied, and waits for dbopt_resume\(\)/, "$what: dbopt_health() as well");
	is($node->safe_psql($database, 'SELECT count(*) FROM effects'), $before, "$what: nothing runs");
	is( $node->safe_psql($database, q{
			SET ROLE writer;
			INSERT INTO log (event_type, aggregate_type, aggregate_id, data, log_position)
			VALUES ('A', 'a', gen_random_uuid(), '{}', 1::bigint << 60) RETURNING log_position < 1::bigint << 60}),
		't', "$what: nobody but its owner chooses an event's position");

	$node->safe_psql($database, 'UPDATE switches SET failing = false; SELECT dbopt_resume()');
	$node->safe_psql($database, 'SELECT write(4)');
	is($node->safe_psql($database, "SELECT dbopt_drain('100 s')"), 't', "$what: all is delivered");
	is($node->safe_psql($database, $compared),
		"dies|3|0|0\nevery|0|0|0\nfails|0|0|0\nin_order|0|0|0\nmarks|0|0|0\nparted|0|0|0",
		"$what: each event once, but for the dead letters")
	  or diag $node->safe_psql($database, 'SELECT * FROM dbopt_backlog(); SELECT * FROM dbopt_retry_queue;
		SELECT * FROM dbopt_cursor JOIN dbopt_cursor_version USING (cursor_id); SELECT * FROM dbopt_database;
		SELECT event_type, log_position, count(*) FROM log GROUP BY 1, 2 ORDER BY 2');
	is($node->safe_psql($database, "SELECT count(*) FROM effects WHERE id = '0'"),
		$restamped, "$what: what was there before the table was attached is delivered only if it came as new");
	is($node->safe_psql($database, 'SELECT dbopt_replay_dead_letters()'), '3', "$what: the dead letters are replayed");
	is($node->safe_psql($database, "SELECT dbopt_drain('100 s')"), 't', "$what: ... and delivered");
	like($node->safe_psql($database, $compared), qr/^dies\|0\|0\|0$/m, "$what: ... once");
	is( $node->safe_psql($database, q{
			SELECT count(*) FROM effects a JOIN log ea ON ea.id::text = a.id JOIN log eb USING (aggregate_id)
			  JOIN effects b ON b.id = eb.id::text AND b.handler = 'in_order'
			 WHERE a.handler = 'in_order' AND ea.aggregate_version < eb.aggregate_version AND a.n > b.n}),
		'0', "$what: versions came in their order");
	is( $node->safe_psql($database, q{
			SELECT (SELECT count(*) FROM dbopt_chunk), (SELECT count(*) FROM dbopt_retry_queue),
				(SELECT count(*) FROM marked WHERE NOT processed), (SELECT count(*) FROM dbopt_handlers WHERE state <> 'ready')}),
		'0|0|0|0', "$what: nothing is left over");
	return;
}

# What pg_restore is told, one list a call; "psql" stands alone.
my %ways = (
	psql => undef,
	exit_on_error => [ [ '--exit-on-error', $files{custom} ] ],
	single => [ [ '--single-transaction', $files{custom} ] ],
	parallel => [ [ '--jobs=2', '--exit-on-error', $files{directory} ] ],
	apart => [ [ '--schema-only', $files{custom} ], [ '--data-only', '--exit-on-error', $files{custom} ] ],
	apart_disabled => [
		[ '--schema-only', $files{custom} ],
		[ '--data-only', '--single-transaction', '--disable-triggers', $files{custom} ]
	]);

sub restore
{
	my ($node, $way) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $way");
	if (defined $ways{$way})
	{
		$node->command_ok([ 'pg_restore', '-d', $way, @$_ ], "$way: restored") foreach @{ $ways{$way} };
	}
	else
	{
		$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $files{plain}, $way ], "$way: restored");
	}
	return;
}

# Far below.
my $low = cluster('low', 0);
foreach my $way (sort keys %ways)
{
	restore($low, $way);
	check_copy($low, $way, "far below, $way", $way eq 'apart' ? 1 : 0);
	$low->safe_psql('postgres', "DROP DATABASE $way");
}

# A copy of a copy that was never resumed, and one of a database at work.
restore($low, 'psql');
$low->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE psql');
check_copy($low, 'copy', 'copied before it was resumed', 0);
$low->stop;

# Far above.
my $high = cluster('high', 9);
foreach my $way (qw(psql apart))
{
	restore($high, $way);
	check_copy($high, $way, "far above, $way", $way eq 'apart' ? 1 : 0);
}
$high->stop;

# The origin goes on, and is copied.
$open[1]->quit;
$open[0]->quit;
$blocker->quit;
$origin->poll_query_until('app', "SELECT count(*) = 1 FROM effects e JOIN log l ON l.id::text = e.id
	WHERE handler = 'every' AND event_type = 'SLOW'") or die 'what was in flight has not ended';
$origin->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE app');
check_copy($origin, 'copy', 'template', 0);
$origin->stop;
done_testing();
