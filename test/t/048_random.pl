# Random writers, and a controller that does random things to handlers,
# sources, sessions and settings meanwhile: each event that a handler has to
# get has its effect exactly once, and no other has any.
#
# SEED chooses what is done; it is printed.  SIZE is the number of transactions
# of a writer.  How these meet in time is left to chance: a seed that has failed
# once need not do so again.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use ExactlyOnce;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RandomLoad;
use Test::More;
use Time::HiRes qw(time);

my $seed = $ENV{SEED} || int(rand(1_000_000_000)) + 1;
my $size = $ENV{SIZE} || 150;
srand($seed);
note "SEED=$seed";
my $pace = pick(0.02, 0.1, 0.3);    # seconds between the controller's steps, at most
my $haste = pick(0.003, 0.01, 0.03);    # the same between the writers' statements

my $node = PostgreSQL::Test::Cluster->new('random');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_worker_processes = 24
max_prepared_transactions = 50
dbopt.pool_max = 6
deadlock_timeout = 100
log_statement = none
});
$node->start;
$node->safe_psql('postgres', setup_sql());
$node->safe_psql('postgres', q{
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown,
		failure_threshold, reset_timeout)
	VALUES ('again', 100000, '20 ms', '100 ms', 'none', true, 1000000, '1 s'),
		('breaks', 100000, '20 ms', '100 ms', 'full', true, 2, '100 ms')});

my $handlers = 0;
my %on;    # the tables of the handlers that may go
my @done;   # by the controller

sub try
{
	my ($sql) = @_;
	my ($status, $out, $error) = $node->psql('postgres', $sql);

	push @done, sprintf('%.3f', time) . ' ' . ($sql =~ s/\s+/ /gr) . ($status ? " -- $error" : '');
	return $status == 0;
}

sub handler_function
{
	my ($name, $table) = @_;
	my $fails = pick(0, 0, 0.02, 0.2, 0.5);
	my ($argument, $source) = @{ pick([ $table, 'e' ], [ $table, 'e' ],
			[ "${table}[]", 'unnest(e)' ],
			[ 'jsonb', "jsonb_populate_record(NULL::public.$table, e)" ]) };
	my $from = $source eq 'e' ? '' : "FROM $source AS x";
	my $row = $source eq 'e' ? 'e' : 'x';
	my $slow = chance(0.2) ? 'IF random() < 0.02 THEN PERFORM pg_sleep(random() * 0.05); END IF; -- work' : '';

	return (
		"CREATE FUNCTION $name(e $argument) RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN
			INSERT INTO public.effects (handler, id, position, event_type)
				SELECT '$name', $row.id, $row.log_position, $row.event_type $from;
			$slow
			IF random() < $fails THEN RAISE 'not now'; END IF;
		END \$\$;\n",
		"$name($argument)");
}

sub options
{
	my @options = ("policy => '" . pick('again', 'again', 'breaks') . "'");

	push @options, 'max_concurrency => ' . between(1, 4) if chance(0.5);
	push @options, 'chunk_size => ' . pick(1, 3, 20, 500) if chance(0.5);
	push @options, 'priority => ' . between(-1, 2) if chance(0.3);
	return @options;
}

sub register
{
	my ($table, $pattern, $ordered, @more) = @_;
	my $name = 'h' . ++$handlers;
	my ($function, $signature) = handler_function($name, $table);
	my $beginning = $table eq 'marked' || chance(0.3);
	my $options = join ', ', options(), @more;

	$options .= ', ordered => true' if $ordered;
	$options .= ", start_from => 'beginning'" if $beginning && $table ne 'marked';
	my $done = try(
		"BEGIN; $function INSERT INTO term (handler, source, pattern, ordered, from_beginning, before)
		VALUES ('$name', '$table', '$pattern', "
		  . ($ordered ? 'true' : 'false') . ', ' . ($beginning ? 'true' : 'false') . ", pg_current_snapshot());
		SELECT dbopt_register_handler('$name', '$pattern', '$signature', '$table', $options);
		UPDATE term SET after = pg_current_snapshot() WHERE handler = '$name'; COMMIT");
	return $done ? $name : undef;
}

# What is discarded is never delivered, which a table with marks shows.
sub unregister
{
	my ($name) = @_;

	return unless defined $name;
	my $discard = $on{$name} eq 'marked' ? 'false' : 'true';
	try("BEGIN; SELECT dbopt_unregister_handler('$name', discard => $discard);
		UPDATE term SET ended = true WHERE handler = '$name'; COMMIT")
	  and delete $on{$name};
	return;
}

sub some_handler
{
	my ($least) = @_;

	return 'h' . between($least // 1, $handlers);
}

sub pattern
{
	my ($table) = @_;

	return pick('T.*', 'N.*', 'N.1*', 'N.2*', 'T.' . between(0, 9), 'N.' . between(0, 43), 'O.*',
		$table eq 'marked' ? 'N.3*' : '*');
}

sub replay
{
	my $name = some_handler(4);
	my $ago = between(0, 5000);

	try("SELECT dbopt_pause_handler('$name')");
	try("SET statement_timeout = '5 s'; SELECT dbopt_drain('500 ms')") if chance(0.5);
	try("BEGIN; CREATE TEMP TABLE s AS SELECT pg_current_snapshot() AS before, now() - '$ago ms'::interval AS since;
		SELECT dbopt_replay('$name', since) FROM s;
		INSERT INTO replay SELECT '$name', since, before FROM s; COMMIT");
	try("SELECT dbopt_resume_handler('$name')");
	return;
}

sub terminate
{
	my ($type) = @_;

	try("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dbopt $type' ORDER BY random() LIMIT "
		  . between(1, 3));
	return;
}

# Outside of a transaction, and not for long.
sub maintain
{
	my ($sql) = @_;

	push @done, sprintf('%.3f', time) . " $sql";
	$node->psql('postgres', "SET lock_timeout = '300 ms';\n$sql");
	return;
}

# Transactions that were prepared and forgotten hold locks.
sub finish_prepared
{
	my ($since) = @_;
	my $forgotten = $node->safe_psql('postgres', qq{
		SELECT format('%s PREPARED %L', CASE WHEN random() < 0.7 THEN 'COMMIT' ELSE 'ROLLBACK' END, gid)
		FROM pg_prepared_xacts WHERE prepared < now() - interval '$since'});

	try($_) foreach split /\n/, $forgotten;
	return;
}

# A table that is attached only now and then, with a handler as long as it is.
my $attached = 1;

sub detach_or_attach
{
	my $insert = q{INSERT INTO sometimes (event_type, aggregate_type, aggregate_id, data)
		SELECT 'S.' || n % 3, 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, 20) n};

	if ($attached)
	{
		unregister($_) foreach grep { $on{$_} eq 'sometimes' } sort keys %on;
		$attached = 0 if try("SELECT dbopt_detach_events('sometimes')");
	}
	elsif (try("SELECT dbopt_attach_events('sometimes')"))
	{
		my $name = register('sometimes', '*', 0);

		$attached = 1;
		$on{$name} = 'sometimes' if defined $name;
	}
	try($insert);
	return;
}

sub register_one
{
	my $table = pick(qw(plain marked parts));
	my $pattern = pattern($table);
	my $name = register($table, $pattern, $pattern eq 'O.*' && chance(0.5));

	$on{$name} = $table if defined $name && chance(0.7);
	return;
}

sub replace
{
	my $name = some_handler();
	my $options = join ', ', options();

	try("SELECT dbopt_register_handler('$name', pattern, h.handler::regprocedure, source::regclass,
			ordered => term.ordered, replace => true, $options)
		FROM term JOIN dbopt_handlers h ON h.name = term.handler WHERE term.handler = '$name'");
	return;
}

sub edit_policy
{
	try("UPDATE dbopt_retry_policy SET base_delay = '"
		  . between(1, 50) . " ms', failure_threshold = " . pick(2, 10, 100000)
		  . ", adaptive = " . pick('true', 'false')
		  . " WHERE name = '" . pick('again', 'breaks') . "'");
	return;
}

sub set_chunk_size
{
	try('ALTER SYSTEM SET dbopt.chunk_size = ' . pick(1, 5, 100, 1000));
	try('SELECT pg_reload_conf()');
	return;
}

my $parts = 3;

sub add_part
{
	$parts++;
	try("SET lock_timeout = '200 ms';
		CREATE TABLE parts_$parts (LIKE parts INCLUDING ALL);
		ALTER TABLE parts ATTACH PARTITION parts_$parts FOR VALUES IN ($parts)");
	return;
}

my @steps = (
	(\&register_one) x 4,
	(sub { unregister(pick(sort keys %on)) }) x 3,
	(sub { try("SELECT dbopt_pause_handler('" . some_handler() . "')") }) x 2,
	(sub { try('SELECT dbopt_resume_handler(name) FROM dbopt_handlers WHERE paused') }) x 2,
	sub { try('SELECT dbopt_pause()') },
	(sub { try('SELECT dbopt_resume()') }) x 3,
	(\&replay) x 2,
	\&replace,
	(sub { terminate('session') }) x 2,
	sub { terminate('scheduler') },
	sub { terminate('launcher') if chance(0.3) },
	\&set_chunk_size,
	\&edit_policy,
	(\&detach_or_attach) x 2,
	sub { try("SELECT dbopt_trip_circuit_breaker('" . some_handler() . "')") },
	sub { try('SELECT dbopt_reset_circuit_breaker()') },
	sub { maintain('VACUUM ' . pick('', 'FULL ') . pick(qw(plain marked parts))) },
	sub { maintain('REINDEX TABLE CONCURRENTLY ' . pick(qw(plain marked))) },
	\&add_part);

# Four writers, and one whose transactions stay open for long.
my $dir = PostgreSQL::Test::Utils::tempdir;
my @writers;

sub start_writers
{
	append_to_file("$dir/w$_", writer_script($_, $size, 0, $haste)) foreach 1 .. 4;
	append_to_file("$dir/w5", writer_script(5, $size / 15, 3, $haste));
	foreach my $i (1 .. 5)
	{
		push @writers,
		  IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-f', "$dir/w$i" ],
			'<', \undef, '>', '/dev/null', '2>', '/dev/null');
	}
	return;
}

# Handlers that stay.
register($_, '*', 0) foreach qw(plain marked parts);
register($_, 'O.*', 1) foreach qw(plain marked parts);
$on{ register('sometimes', '*', 0) } = 'sometimes';
start_writers();
until ($node->safe_psql('postgres', 'SELECT count(*) FROM finished') == @writers)
{
	pick(@steps)->();
	finish_prepared('300 ms');
	$node->safe_psql('postgres', sprintf 'SELECT pg_sleep(%.3f) -- work', rand($pace));
}
$_->finish foreach @writers;
finish_prepared('0');

$node->safe_psql('postgres', q{
	SELECT dbopt_resume();
	SELECT dbopt_resume_handler(name) FROM dbopt_handlers WHERE paused;
	UPDATE dbopt_retry_policy SET base_delay = '20 ms', failure_threshold = 100000 WHERE name IN ('again', 'breaks');
	SELECT dbopt_reset_circuit_breaker()});
drained($node, "seed $seed");
$node->safe_psql('postgres', verdict_sql());

# There is no such thing.
sub none
{
	my ($name, $sql) = @_;

	return is($node->safe_psql('postgres', "$sql LIMIT 30"), '', $name);
}

none('each commit was noted', 'SELECT * FROM present WHERE id IS NULL');
none('each event was delivered', q{SELECT * FROM due WHERE kind IN ('must', 'again') AND n = 0});
none('no event from before was delivered', q{SELECT * FROM due WHERE kind = 'not' AND n > 0});
none('each event that was replayed was delivered again', q{
	SELECT * FROM due JOIN replay r USING (handler)
	WHERE created_at >= r.since AND NOT EXISTS (SELECT FROM unnest(xacts) x WHERE NOT pg_visible_in_snapshot(x, r.before))});
none('no event was delivered twice', q{
	SELECT * FROM had h WHERE n > 1 + (SELECT count(*) FROM replay r WHERE r.handler = h.handler)});
none('no other event was delivered', q{
	SELECT * FROM had h JOIN term t USING (handler)
	WHERE NOT matches(t.pattern, h.event_type) OR NOT EXISTS (SELECT FROM identity i
		WHERE (i.source, i.id, i.position, i.event_type) = (t.source, h.id, h.position, h.event_type))});
none('all events are marked', 'SELECT * FROM marked WHERE NOT processed');
none('each marked event was delivered once, and once each time it was reset', q{
	SELECT * FROM marks WHERE n <> wanted AND id IN (SELECT id FROM marked EXCEPT SELECT id FROM excused)});
none('no marked event was delivered more often', 'SELECT * FROM marks WHERE n > wanted');
none('versions came in their order', q{
	SELECT * FROM (SELECT *, lag(n) OVER (PARTITION BY handler, aggregate_id ORDER BY aggregate_version) AS previous
		FROM effects JOIN term USING (handler) JOIN present USING (id)
		WHERE ordered AND term.source <> 'marked' AND handler NOT IN (SELECT handler FROM replay)) e
	WHERE previous > n});
none('nothing was given up', 'SELECT * FROM dbopt_dead_letter');
none('no chunk is left', 'SELECT * FROM dbopt_chunk');
none('no order is left', 'SELECT * FROM dbopt_ordered');
is( $node->safe_psql('postgres', "SELECT count(*) FILTER (WHERE kind = 'must') > 300 FROM due"),
	't', 'much had to be delivered');
no_job_failed($node);
unless (Test::More->builder->is_passing)
{
	diag "SEED=$seed";
	diag $_ foreach @done;
}

$node->stop;
done_testing();
