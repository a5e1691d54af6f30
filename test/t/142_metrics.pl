# Metrics: the names and labels of the contract, figures that agree with
# dbopt_retry_stats(), and a text that a strict reader of the Prometheus format
# accepts, whatever a handler is called.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('metrics');
$node->init;
$node->append_conf('postgresql.conf',
	"shared_preload_libraries = 'dbopt'\nmax_worker_processes = 16\ndbopt.environment = 'staging'\ndbopt.pool_min = 1\ndbopt.max_handlers = 60");
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

my $odd = "a \"quoted\\\n} name\x{c3}\x{a9}";

sql(qq{
	CREATE EXTENSION dbopt CASCADE;
	CREATE ROLE caller LOGIN;
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE FUNCTION work(events) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		IF \$1.event_type = 'BAD' THEN
			RAISE EXCEPTION 'bad' USING ERRCODE = 'data_exception';
		ELSIF \$1.event_type = 'AGAIN' THEN
			RAISE EXCEPTION 'again' USING ERRCODE = 'connection_failure';
		ELSIF \$1.event_type = 'SLOW' THEN
			PERFORM pg_sleep(0.2); -- work
		END IF;
	END \$\$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, failure_threshold)
		VALUES ('quick', 3, '1 ms', '1 ms', 1000);
	SELECT dbopt_register_handler('bad', 'BAD', 'work(events)', policy => 'quick');
	SELECT dbopt_register_handler('again', 'AGAIN', 'work(events)', policy => 'quick');
	SELECT dbopt_register_handler('idle', 'IDLE', 'work(events)');
	SELECT dbopt_register_handler(\$\$$odd\$\$, 'SLOW', 'work(events)');
	INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
		SELECT unnest('{BAD,AGAIN,AGAIN,SLOW,SLOW,SLOW}'::text[]), 'a', gen_random_uuid(), '{}';
});
is(sql('SELECT dbopt_drain()'), 't', 'delivered');
# The role has no session yet, and waits for one to start.
$node->safe_psql('postgres', q{SELECT dbopt_with_connection('SELECT 1')}, extra_params => [ '-U', 'caller' ]);
is(sql('SELECT dbopt_test_connection()'), 't', 'a session answers');
sql('SELECT dbopt_trip_circuit_breaker(\'idle\')');

# ---- a strict reader of the text format ----------------------------------

# Dies unless the text is as the format's description has it; returns the
# samples, each under its name and labels.
sub parse
{
	my ($text) = @_;
	my (%samples, %type, %help, %closed, $family);

	die 'the last line does not end' unless $text =~ /\n\z/;
	foreach my $line (split /\n/, $text)
	{
		if ($line =~ /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/)
		{
			my ($what, $name, $rest) = ($1, $2, $3);

			if ($what eq 'HELP')
			{
				die "family $name is split" if $help{$name};
				$help{$name} = $rest;
				$family = $name;
			}
			else
			{
				die "type of $name without its help before it" if $name ne $family or $type{$name};
				die "type $rest" unless $rest =~ /^(counter|gauge|histogram)$/;
				die "$name is a counter" if $rest eq 'counter' and $name !~ /_total$/;
				die "$name is none" if $rest ne 'counter' and $name =~ /_(total|bucket|sum|count)$/;
				$type{$name} = $rest;
			}
			next;
		}
		die "not a sample: $line"
		  unless $line =~ /^([a-zA-Z_:][a-zA-Z0-9_:]*)\{(.*)\} (\d+(?:\.\d+)?(?:e[+-]\d+)?)$/;
		my ($name, $labels, $value) = ($1, $2, $3);
		my ($base) = $name =~ /^(.*?)(?:_(?:bucket|sum|count))?$/;
		$base = $name unless $type{$family} eq 'histogram';
		die "$name is not of family $family" if $base ne $family;
		my %label;
		while ($labels =~ /\G([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)/gc)
		{
			die "label $1 twice" if exists $label{$1};
			$label{$1} = $2;
		}
		die "labels: $labels" if (pos($labels) // 0) != length $labels;
		my $key = join ',', map { "$_=$label{$_}" } sort keys %label;
		die "$name\{$key} twice" if exists $samples{$name}{$key};
		$samples{$name}{$key} = $value;
	}
	foreach my $name (grep { $type{$_} eq 'histogram' } keys %type)
	{
		check_histogram(\%samples, $name);
	}
	return (\%samples, \%type);
}

# Buckets grow, and the last one is the count.
sub check_histogram
{
	my ($samples, $name) = @_;
	my %buckets;

	foreach my $key (keys %{ $samples->{"${name}_bucket"} })
	{
		my ($le) = $key =~ /(?:^|,)le=([^,]*)/ or die "$name: no le";
		(my $rest = $key) =~ s/(?:^|,)le=[^,]*//;
		$buckets{$rest}{$le} = $samples->{"${name}_bucket"}{$key};
	}
	foreach my $rest (keys %buckets)
	{
		my $below = 0;
		my @bounds = sort { $a <=> $b } grep { $_ ne '+Inf' } keys %{ $buckets{$rest} };

		foreach my $le (@bounds, '+Inf')
		{
			die "$name: bucket $le is smaller" if $buckets{$rest}{$le} < $below;
			$below = $buckets{$rest}{$le};
		}
		die "$name: not the count" if $below != $samples->{"${name}_count"}{$rest};
		die "$name: no sum" unless defined $samples->{"${name}_sum"}{$rest};
	}
	return;
}

my ($samples, $type) = eval { parse($node->safe_psql('postgres', 'SELECT dbopt_prometheus()') . "\n") };
is($@, '', 'the text format is kept to');

# ---- names and labels ----------------------------------------------------

my %expected = (
	(map { $_ => 'gauge' } qw(database_pool_connections_used database_pool_connections_free database_pool_connections_waiting
		  database_pool_connections_min database_pool_connections_max database_pool_idle_timeout database_pool_acquire_timeout
		  database_pool_create_timeout database_pool_utilization database_pool_health
		  database_retry_in_flight database_retry_failure_rate circuit_breaker_state)),
	(map { $_ . '_total' => 'counter' } qw(database_pool_events database_retry_attempt database_retry_success
		  database_retry_failure database_retry_retry database_retry_success_after_retry database_retry_dead_letter
		  database_retry_rejected circuit_breaker_success circuit_breaker_failure circuit_breaker_rejected
		  circuit_breaker_tripped)),
	(map { $_ => 'histogram' } qw(database_operation_duration database_pool_acquire_duration database_pool_create_duration)));
is_deeply($type, \%expected, 'all metrics are there, and of the right kind');

my $base = 'datname=postgres,environment=staging';
(my $escaped = $odd) =~ s/([\\"])/\\$1/g;
$escaped =~ s/\n/\\n/g;
is_deeply(
	[ sort keys %{ $samples->{database_retry_attempt_total} } ],
	[ sort map { "$base,handler=$_" } 'again', 'bad', 'idle', $escaped ],
	'a label for each handler, escaped');
is(scalar keys %{ $samples->{circuit_breaker_state} }, 5, 'a breaker for each handler, and for the database');
is($samples->{circuit_breaker_state}{"$base,handler=idle"}, 1, 'an open breaker');
is($samples->{circuit_breaker_state}{"$base,handler=database"}, 0, 'a closed breaker');

# ---- figures -------------------------------------------------------------

my @columns = qw(attempts successes failures retries successes_after_retry dead_letters rejected in_flight);
my @metrics = qw(database.retry.attempt database.retry.success database.retry.failure database.retry.retry
  database.retry.success_after_retry database.retry.dead_letter database.retry.rejected database.retry.in_flight);

foreach my $i (0 .. $#columns)
{
	is( sql("SELECT count(*), coalesce(sum((s.$columns[$i] = m.value)::int), 0) FROM dbopt_retry_stats() s
			JOIN dbopt_metrics() m ON m.labels ->> 'handler' = s.handler AND m.name = '$metrics[$i]'"),
		'4|4',
		"$metrics[$i] agrees with dbopt_retry_stats()");
}
is($samples->{database_retry_attempt_total}{"$base,handler=again"}, 6, 'attempts of events that fail three times');
is($samples->{database_retry_dead_letter_total}{"$base,handler=again"}, 2, '... which are given up');
is($samples->{database_retry_success_total}{"$base,handler=$escaped"}, 3, 'successes');

is($samples->{database_operation_duration_count}{"$base,handler=$escaped"}, 3, 'three operations were timed');
is($samples->{database_operation_duration_bucket}{"$base,handler=$escaped,le=0.131072"}, 0, 'none took less than 0.13 s');
is($samples->{database_operation_duration_bucket}{"$base,handler=$escaped,le=134.217728"}, 3, 'all less than 134 s');
cmp_ok($samples->{database_operation_duration_sum}{"$base,handler=$escaped"}, '>=', 0.6, 'in all at least 0.6 s');
is($samples->{database_pool_acquire_duration_count}{$base}, 2, 'two callers have waited for a session');
is( sql(q{SELECT bool_and(m.value = e.count) FROM dbopt_pool_events() e
		JOIN dbopt_metrics() m ON m.name = 'database.pool.events' AND m.labels ->> 'event' = e.event}),
	't', 'events of the pool');
is( sql(q{SELECT string_agg(m.value::text, ' ' ORDER BY m.name) FROM dbopt_metrics() m
		WHERE m.name IN ('database.pool.connections.max', 'database.pool.connections.min')}),
	'20 1', 'limits of the pool');
is( sql(q{SELECT count(DISTINCT name) FROM dbopt_metrics() WHERE kind = 'histogram'}), '9', 'histograms have three parts');

# The rows and the text are the same.
my $rows = 0;
$rows += keys %{ $samples->{$_} } foreach keys %$samples;
is(sql('SELECT count(*) FROM dbopt_metrics()'), $rows, 'as many rows as samples');

is( sql(q{SELECT num_used, num_pending_acquires, num_pending_creates, utilization, pool_health, circuit_breaker_state,
		acquire_wait_mean_ms > 0, acquire_wait_p99_ms >= acquire_wait_mean_ms / 2 FROM dbopt_connection_stats()}),
	'0|0|0|0|healthy|CLOSED|t|t',
	'statistics of connections');

# ---- handlers that come and go -------------------------------------------

# Series are those of the handlers that there are, each with a slot of its own.
my $each = sql(q{SELECT count(*) FROM dbopt_metrics() WHERE labels ->> 'handler' = 'idle'});
foreach my $generation (1 .. 3)
{
	sql(qq{SELECT dbopt_register_handler('brief $generation ' || n, 'BRIEF.' || n, 'work(events)') FROM generate_series(1, 50) n});
	sql(q{INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
		SELECT 'BRIEF.' || n, 'a', gen_random_uuid(), '{}' FROM generate_series(1, 50) n});
	is(sql('SELECT dbopt_drain()'), 't', "delivered to handlers of generation $generation");
	is( sql(q{SELECT count(*) FROM dbopt_metrics();
		SELECT count(*), min(value), max(value) FROM dbopt_metrics()
			WHERE name = 'database.retry.success' AND labels ->> 'handler' LIKE 'brief %'}),
		$rows + 50 * $each . "\n50|1|1", '50 more have as many series, and count');
	sql(q{SELECT dbopt_unregister_handler(name) FROM dbopt_handlers WHERE name LIKE 'brief %'});
	is(sql('SELECT count(*) FROM dbopt_metrics()'), $rows, 'none is left when they have gone');
}

# ---- who may ask, and when -----------------------------------------------

sql('CREATE ROLE nobody LOGIN; CREATE ROLE monitor LOGIN IN ROLE pg_monitor; CREATE ROLE mute IN ROLE pg_monitor');
foreach my $call ('dbopt_metrics()', 'dbopt_prometheus()', 'dbopt_connection_stats()', 'dbopt_test_connection()')
{
	is($node->psql('postgres', "SET ROLE nobody; SELECT * FROM $call"), 3, "$call is not for everybody");
	is($node->psql('postgres', "SET ROLE monitor; SELECT * FROM $call"), 0, '... but for pg_monitor');
}
my ($status, $out, $err) = $node->psql('postgres', 'SET ROLE mute; SELECT dbopt_test_connection()');
like($out . $err, qr/f.*NOTICE:  no pool session has answered: role "mute" cannot have pool sessions|^t/s,
	'a role that cannot have sessions is told so');
sql(q{SELECT dbopt_trip_circuit_breaker('database')});
is(sql('SELECT dbopt_test_connection()'), 'f', 'none answers while the breaker is open');
is(sql('SELECT circuit_breaker_state FROM dbopt_connection_stats()'), 'OPEN', '... which is told');

sql('SELECT dbopt_reset_stats()');
is(sql(q{SELECT sum(value) FROM dbopt_metrics() WHERE name ~ 'database.retry.(attempt|success|failure)$'}),
	'0', 'counters begin anew');

$node->stop;
done_testing();
