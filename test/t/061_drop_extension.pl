# The extension can be dropped at any time, under load as well: nobody
# deadlocks, and inserts go on.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('drop');
$node->init;
$node->append_conf(
	'postgresql.conf', qq(
shared_preload_libraries = 'dbopt'
deadlock_timeout = '20ms'
fsync = off
));
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION pg_trgm;
	CREATE ROLE stranger LOGIN;
	CREATE TABLE log (id bigserial PRIMARY KEY, event_type text NOT NULL);
	CREATE FUNCTION handle(log) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	CREATE SCHEMA home;
	CREATE TABLE control (go_on boolean);
	INSERT INTO control VALUES (true);
	CREATE PROCEDURE write() LANGUAGE plpgsql AS $$
	BEGIN
		WHILE (SELECT go_on FROM control) LOOP
			INSERT INTO log (event_type) SELECT 'T' || (random() * 50)::int
				FROM generate_series(1, 20);
			COMMIT;
		END LOOP;
	END $$;
});

# Sessions of a client that write until they are told to stop.  A new one has
# to look up where the positions begin, under the lock of its first insert.
sub start_writers
{
	my @writers;

	$node->safe_psql('postgres', 'UPDATE control SET go_on = true');
	for (1 .. 2)
	{
		my ($in, $out) = ('', '');
		push @writers,
		  IPC::Run::start(
			[ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'CALL write()' ],
			\$in, '>&', \$out);
	}
	return @writers;
}

my $dropped = 0;
my @commands = (
	'DROP EXTENSION dbopt CASCADE',
	'DROP SCHEMA home CASCADE; CREATE SCHEMA home',
	'BEGIN; DROP EXTENSION dbopt CASCADE; ROLLBACK; DROP EXTENSION dbopt CASCADE',
	'DROP EXTENSION dbopt CASCADE');
foreach my $round (0 .. 7)
{
	my @writers = start_writers();
	my $command = $commands[ $round % @commands ];

	$node->safe_psql(
		'postgres', q{
		SET search_path = home, public;
		SET lock_timeout = '3min';	-- a writer may stand still
		CREATE EXTENSION dbopt SCHEMA home;
		SELECT dbopt_attach_events('log');
		SELECT dbopt_register_handler('handle', '*', 'handle(log)')});
	$node->poll_query_until('postgres',
		'SELECT count(*) > 0 FROM home.dbopt_cursor')
	  or die 'no cursors';
	my ($status, $out, $err) = $node->psql('postgres',
		"SET statement_timeout = '60 s'; $command");
	is($status, 0, "$round: $command") or diag $err;
	$dropped++ if $status == 0;
	$node->safe_psql('postgres', 'UPDATE control SET go_on = false');
	ok($_->finish, "$round: writers went on") foreach @writers;
	last unless $status == 0;
}
is($dropped, 8, 'dropped every time');
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'no deadlock');

# The scheduler that there was has gone when the extension is dropped; another
# one may be there for a moment, to see that it is.
sub workers_have_gone
{
	my ($pid, $name) = @_;

	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), '0', $name);
	ok( $node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('dbopt scheduler', 'dbopt session')}),
		'... for good');
	return;
}

# Nobody stops the workers by a command that he may not run.
$node->safe_psql('postgres', 'CREATE EXTENSION dbopt SCHEMA home');
my $scheduler =
  q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'};
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($scheduler) s")
  or die 'no scheduler';
my $pid = $node->safe_psql('postgres', $scheduler);
foreach my $command (
	'DROP EXTENSION dbopt CASCADE',
	'DROP EXTENSION pg_trgm CASCADE',
	'DROP SCHEMA home CASCADE',
	'DROP OWNED BY postgres CASCADE')
{
	my ($status) =
	  $node->psql('postgres', $command, extra_params => [ '-U', 'stranger' ]);

	isnt($status, 0, "a stranger may not: $command");
}
is($node->safe_psql('postgres', $scheduler), $pid, 'the workers stayed');
$node->safe_psql('postgres', 'DROP EXTENSION dbopt');
workers_have_gone($pid, 'there are none when the extension is gone');

# To drop what the extension requires drops it as well, and waits for nobody.
$node->safe_psql('postgres', q{
	SET search_path = home, public;
	CREATE EXTENSION dbopt SCHEMA home;
	SELECT dbopt_attach_events('log');
	CREATE FUNCTION hang(log) RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); /* handler */ END';
	SELECT dbopt_register_handler('hang', '*', 'hang(log)');
	INSERT INTO log (event_type) VALUES ('T')});
ok( $node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND wait_event = 'PgSleep'}),
	'a handler is at work');
foreach my $command (qw(EXTENSION SCHEMA))
{
	my $what = $command eq 'SCHEMA' ? 'required' : 'pg_trgm';
	$pid = $node->safe_psql('postgres', $scheduler);
	my ($status, $out, $err) = $node->psql('postgres', "SET statement_timeout = '60 s'; DROP $command $what CASCADE");

	is($status, 0, "DROP $command $what CASCADE") or diag $err;
	workers_have_gone($pid, '... ends the workers');
	last if $command eq 'SCHEMA';
	$node->safe_psql('postgres', q{
		CREATE SCHEMA required;
		CREATE EXTENSION pg_trgm SCHEMA required;
		SET search_path = home, public;
		CREATE EXTENSION dbopt SCHEMA home;
		SELECT dbopt_attach_events('log');
		SELECT dbopt_register_handler('hang', '*', 'hang(log)');
		INSERT INTO log (event_type) VALUES ('T')});
	ok( $node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND wait_event = 'PgSleep'}),
		'a handler is at work again');
}

# Whoever leaves the key to its default can do so without the extension, too.
$node->safe_psql(
	'postgres', q{
	CREATE SCHEMA "my %s home";
	CREATE EXTENSION pg_trgm;
	CREATE EXTENSION dbopt SCHEMA "my %s home";
	SET search_path = "my %s home", public;
	SELECT dbopt_create_events('public."Events"');
	CREATE TABLE public.others (id uuid DEFAULT dbopt_uuid_v7(), part int, "and so" uuid DEFAULT dbopt_uuid_v7(),
		own text DEFAULT 'x' || dbopt_uuid_v7()) PARTITION BY LIST (part);
	CREATE TABLE public.others_1 PARTITION OF others DEFAULT});
my $default = q{SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = '"Events"'::regclass AND adnum = 1};
my ($status) = $node->psql('postgres', 'DROP EXTENSION dbopt');
isnt($status, 0, 'RESTRICT drops no default');
like($node->safe_psql('postgres', $default), qr/dbopt_uuid_v7\(\)$/, '... and changes none');
foreach my $command ('DROP SCHEMA "my %s home" CASCADE', 'DROP EXTENSION dbopt CASCADE')
{
	my $err;

	($status, undef, $err) = $node->psql('postgres', "BEGIN; $command; ROLLBACK; $command");
	is($status, 0, $command) or diag $err;
	like($err, qr/column "id" of table "Events" has the default/, '... tells of the default that changes');
	is( $node->safe_psql(
			'postgres', q{
		INSERT INTO "Events" (event_type, aggregate_type, aggregate_id, data)
			SELECT 'T', 't', gen_random_uuid(), '{}' FROM generate_series(1, 2);
		INSERT INTO others (part) VALUES (1);
		INSERT INTO others_1 (part) VALUES (1);
		SELECT count(DISTINCT id) FROM "Events";
		SELECT count(id), count(DISTINCT "and so"), count(own) FROM others}),
		"2\n2|2|0", '... and inserts go on');
	last if $command =~ /EXTENSION/;
	$node->safe_psql(
		'postgres', q{
		DROP TABLE "Events", others;
		CREATE EXTENSION dbopt;
		SELECT dbopt_create_events('"Events"');
		CREATE TABLE public.others (id uuid DEFAULT dbopt_uuid_v7(), part int, "and so" uuid DEFAULT dbopt_uuid_v7(),
			own text DEFAULT 'x' || dbopt_uuid_v7()) PARTITION BY LIST (part);
		CREATE TABLE public.others_1 PARTITION OF others DEFAULT});
}

# ---- callers that wait for it ----

# Each is in a function that wants the tables while they are being dropped.
foreach my $then ('', 'CREATE EXTENSION dbopt; ')
{
	my $holder = $node->background_psql('postgres');
	my ($out, $err) = ('', '');

	$node->safe_psql('postgres', 'CREATE EXTENSION IF NOT EXISTS dbopt');
	$holder->query_safe('BEGIN; LOCK TABLE dbopt_database, dbopt_source IN ACCESS EXCLUSIVE MODE');
	my $caller = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'), '-c', 'SELECT dbopt_pause()' ],
		'>', \$out, '2>', \$err);
	$node->poll_query_until('postgres', q{SELECT count(*) FROM pg_stat_activity
		WHERE query = 'SELECT dbopt_pause()' AND wait_event_type = 'Lock'}, '1') or die 'the caller does not wait';
	$holder->query_safe("DROP EXTENSION dbopt; ${then}COMMIT");
	$holder->quit;
	$caller->finish;
	if ($then eq '')
	{
		like($err, qr/ERROR:  55000: extension "dbopt" is not installed/, 'who waits for the extension is told that it is gone');
	}
	else
	{
		is($err, '', '... or finds the new one');
		is($node->safe_psql('postgres', 'SELECT paused FROM dbopt_database'), 't', '... and does there what it was told');
	}
}

# One that has begun to read what is configured reads it of the new one.
my $holder = $node->background_psql('postgres');
my $out = '';
$holder->query_safe('BEGIN; LOCK TABLE dbopt_retry_policy IN ACCESS EXCLUSIVE MODE');
my $caller = IPC::Run::start(
	[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{SELECT dbopt_retry_delay(1, 'database', 0.5)} ],
	'>', \$out);
$node->poll_query_until('postgres', q{SELECT count(*) FROM pg_stat_activity
	WHERE query ~ '^SELECT dbopt_retry_delay' AND wait_event_type = 'Lock'}, '1') or die 'the caller does not wait';
$holder->query_safe('DROP EXTENSION dbopt; CREATE EXTENSION dbopt; COMMIT');
$holder->quit;
$caller->finish;
is($out, "00:00:00.5\n", 'who has begun to read finds what the new one has');

$node->stop;
done_testing();
