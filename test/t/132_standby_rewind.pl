# A standby runs nothing, and says so; promoted, it goes on where the primary
# was, whatever was in flight.  The old primary, rewound, does nothing.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt, pg_stat_statements'
wal_log_hints = on
wal_keep_size = '256MB'	# back to where the servers part
});
$primary->start;
$primary->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE EXTENSION pg_stat_statements;
	SELECT dbopt_create_events('log', false);
	SELECT dbopt_create_events('marked', true);
	CREATE TABLE seen (handler text, id uuid);
	CREATE TABLE switches (failing boolean);
	INSERT INTO switches VALUES (true);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('again', 1000, '1 s', '1 s', 'none', true, 1000000);
	CREATE FUNCTION see(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO seen VALUES ('see', e.id);
		IF e.event_type = 'SLOW' THEN
			PERFORM pg_advisory_xact_lock(1);
		END IF;
		IF e.event_type = 'FAILS' AND (SELECT failing FROM switches) THEN RAISE 'later'; END IF;
	END $$;
	CREATE FUNCTION mark(e marked) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES ('mark', e.id) $$;
	SELECT dbopt_register_handler('see', '*', 'see(log)', events => 'log', policy => 'again');
	SELECT dbopt_register_handler('mark', '*', 'mark(marked)', events => 'marked');
	CREATE FUNCTION write(types text[]) RETURNS void LANGUAGE sql AS $$
		INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
			SELECT t, 'a', dbopt_uuid_v7(), '{}' FROM unnest(types) t, generate_series(1, 5);
		INSERT INTO marked (event_type, aggregate_type, aggregate_id, data)
			SELECT t, 'a', dbopt_uuid_v7(), '{}' FROM unnest(types) t, generate_series(1, 5) $$;
});
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dbopt%'";
my $once = q{
	SELECT count(*) FILTER (WHERE n IS NULL) AS missing, count(*) FILTER (WHERE n > 1) AS doubled,
		count(*) FILTER (WHERE committed IS NULL) AS invented
	  FROM (SELECT 'see' AS handler, id, true AS committed FROM log UNION ALL SELECT 'mark', id, true FROM marked) e
	  FULL JOIN (SELECT handler, id, count(*) AS n FROM seen GROUP BY 1, 2) s USING (handler, id)};

# Delivered, waiting for a retry, and in flight, half of it done.
$primary->safe_psql('postgres', q{SELECT write('{A,B}')});
is($primary->safe_psql('postgres', 'SELECT dbopt_drain()'), 't', 'delivered by the primary');
my $blocker = $primary->background_psql('postgres');
$blocker->query_safe('SELECT pg_advisory_lock(1)');
$primary->safe_psql('postgres', q{SELECT write('{FAILS,SLOW}')});
ok( $primary->poll_query_until('postgres', q{
		SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted) > 0
			AND (SELECT count(*) FROM dbopt_retry_queue) = 5}),
	'some are in flight, some wait to be tried again');
$primary->wait_for_catchup($standby);

# On the standby: what reports answers, what changes something is refused, and
# whatever there is has been called.
is($standby->safe_psql('postgres', $workers), '0', 'nothing runs on the standby');
my %called;
my $on_standby = sub {
	my ($call) = @_;
	my ($name) = $call =~ /(dbopt_\w+)/;

	$called{$name} = 1;
	return ($standby->psql('postgres', "\\set VERBOSITY verbose\n$call", timeout => 100));
};
foreach my $call (
	'dbopt_backlog()', 'dbopt_retry_stats()', 'dbopt_circuit_breakers()', 'dbopt_pool_stats()',
	'dbopt_pool_sessions()', 'dbopt_pool_events()', 'dbopt_health()', 'dbopt_metrics()', 'dbopt_prometheus()',
	'dbopt_report()', 'dbopt_connection_stats()', 'dbopt_index_status()', 'dbopt_index_advice()',
	'dbopt_estimate_indexes()', 'dbopt_slow_queries()', 'dbopt_sources', 'dbopt_handlers', 'dbopt_dead_letters',
	'dbopt_pending_retries', "dbopt_is_retryable('40001')", 'dbopt_retry_delay(1)', 'dbopt_uuid_v7()',
	"dbopt_circuit_breaker_state('see')")
{
	my ($status, $out, $err) = $on_standby->("SELECT count(*) FROM $call");

	is($status, 0, "on the standby: $call answers") or diag $err;
}
my %refused = (
	'25006' => qr/cannot execute (\w+)\(\) during recovery\nHINT:  This server is a standby: call it on the primary/,
	'55000' => qr/there are no pool sessions during recovery\nHINT:  This server is a standby: call it on the primary/,
	'0A000' => qr/cannot use serializable mode in a hot standby\nHINT:  Give another isolation level/);
foreach my $call (
	'SELECT dbopt_pause()', 'SELECT dbopt_resume()',
	"SELECT dbopt_register_handler('x', '*', 'see(log)', events => 'log')",
	"SELECT dbopt_register_handler('see', '*', 'see(log)', events => 'log', replace => true)",
	"SELECT dbopt_unregister_handler('mark')", "SELECT dbopt_unregister_handler('see', discard => true)",
	"SELECT dbopt_unregister_handler('nobody')", "SELECT dbopt_pause_handler('see')",
	"SELECT dbopt_resume_handler('see')", 'SELECT dbopt_replay_dead_letters()',
	"SELECT dbopt_discard_dead_letters('see')", "SELECT dbopt_replay('see', '-infinity')",
	"SELECT dbopt_attach_events('seen')", "SELECT dbopt_attach_events('log')", "SELECT dbopt_detach_events('log')",
	"SELECT dbopt_create_events('log')", 'SELECT dbopt_reset_circuit_breaker()',
	"SELECT dbopt_reset_circuit_breaker('see')", "SELECT dbopt_trip_circuit_breaker('see')",
	'SELECT dbopt_reset_stats()', "SELECT dbopt_drain('1 h')", 'CALL dbopt_ensure_indexes()',
	"CALL dbopt_ensure_indexes('log', wait => true)", 'CALL dbopt_drop_indexes()', "CALL dbopt_drop_indexes('log')",
	[ '55000', "SELECT dbopt_with_connection('SELECT 1')" ],
	[ '55000', "SELECT dbopt_with_transaction('{SELECT 1}')" ],
	[ '0A000', "CALL dbopt_with_transaction_retry('SELECT 1')" ])
{
	my ($code, $statement) = ref $call ? @$call : ('25006', $call);
	my ($status, $out, $err) = $on_standby->($statement);

	isnt($status, 0, "on the standby: $statement is refused");
	like($err, qr/ERROR:  $code: $refused{$code}/, '... and says why, and what to do');
}

# The caller's own SQL may read, with retries as everywhere.
foreach my $procedure ("dbopt_with_database_retry('%s')", "dbopt_with_transaction_retry('%s', 'repeatable read')")
{
	my ($status, $out, $err) = $on_standby->('CALL ' . sprintf($procedure, 'SELECT count(*) FROM seen'));

	is($status, 0, "on the standby: $procedure reads") or diag $err;
	(undef, undef, $err) = $on_standby->('CALL ' . sprintf($procedure, 'DELETE FROM seen'));
	like($err, qr/ERROR:  25006: cannot execute DELETE in a read-only transaction\nDETAIL:  Attempts: 1\./,
		'... and what would write fails at once');
}
my ($status, $out, $err) = $on_standby->('SELECT dbopt_test_connection()');
is($out, 'f', 'on the standby: no pool session answers');
like($err, qr/there are no pool sessions during recovery/, '... and it says why');
my @functions = split /\n/, $standby->safe_psql('postgres', q{
	SELECT DISTINCT proname FROM pg_proc p
		JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dbopt')
			AND prorettype <> 'trigger'::regtype
			-- parts of others
			AND proname !~ 'advice_|_bytes$|_statements?$|statement_|delivered_before|declared_table|named_tables|installed'});
cmp_ok(scalar @functions, '>', 30, 'the functions are found');
is_deeply([ grep { !$called{$_} } @functions ], [], '... and each has been called on the standby');

# The primary goes away; what it did last may be lost, and its clients with it.
$primary->stop('immediate');
$blocker->{run}->finish;
$standby->promote;
ok( $standby->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler' AND datname = 'postgres'"),
	'promoted, it has a scheduler');
$standby->safe_psql('postgres', q{UPDATE switches SET failing = false; SELECT write('{A,SLOW}')});
is($standby->safe_psql('postgres', "SELECT dbopt_drain('100 s')"), 't', 'all is delivered');
is($standby->safe_psql('postgres', $once), '0|0|0', '... once, what was in flight and failing as well');

# The old primary comes back as a standby of the new one.
$standby->safe_psql('postgres', 'CHECKPOINT');
$primary->start;
$primary->stop;
command_ok(
	[
		'pg_rewind', '--no-sync', '--target-pgdata', $primary->data_dir,
		'--source-server', $standby->connstr('postgres')
	],
	'the old primary is rewound');
Test::More->builder->is_passing or die 'there is nothing to go on with';
$primary->append_conf('postgresql.conf', 'port = ' . $primary->port);
unlink $primary->data_dir . '/postgresql.auto.conf';
append_to_file($primary->data_dir . '/postgresql.auto.conf', "\n");
$primary->enable_streaming($standby);
$primary->set_standby_mode;
$primary->start;
$standby->safe_psql('postgres', q{SELECT write('{A,B}')});
is($standby->safe_psql('postgres', "SELECT dbopt_drain('100 s')"), 't', 'the new primary delivers');
$standby->wait_for_catchup($primary);
is($primary->safe_psql('postgres', $workers), '0', 'nothing runs on the old primary');
is($primary->safe_psql('postgres', $once), '0|0|0', '... which has had what the new one did');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM dbopt_handlers WHERE state <> $$ready$$'), '0', 'all is well');
$primary->stop;
$standby->stop;
done_testing();
