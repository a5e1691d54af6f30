# Without preloading the extension can be created, tables can be attached, and
# what needs workers says which setting is missing.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $preload = qr/Add dbopt to the setting shared_preload_libraries/;
my $node = PostgreSQL::Test::Cluster->new('plain');
$node->init;
$node->start;

# Raises the error with its SQLSTATE.
sub error_of
{
	my ($statement) = @_;
	my ($status, $out, $err) =
	  $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");
	return $err;
}

my ($status, $out, $err) = $node->psql('postgres', q{
	CREATE TABLE events (id bigint PRIMARY KEY, event_type text);
	CREATE EXTENSION dbopt CASCADE;
});
is($status, 0, 'extension created');
like($err, qr/WARNING:  dbopt is not preloaded/, 'warned');
like($err, $preload, 'told what to do');
like($err, qr/NOTICE:  there is a table that may hold events: public\.events/,
	'table events found');
like($err, qr/\QSELECT public.dbopt_attach_events('public.events')\E/,
	'told how to attach it');
is($node->safe_psql('postgres', 'SELECT count(*) FROM dbopt_sources'),
	'0', 'nothing attached by itself');

$node->safe_psql('postgres', q{
	SELECT dbopt_attach_events('events');
	INSERT INTO events VALUES (1, 'A');
	CREATE FUNCTION on_event(e events) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
});
is( $node->safe_psql('postgres',
		'SELECT count(*) FROM events WHERE log_position > 0'),
	'1',
	'events are stamped');
is( $node->safe_psql('postgres',
		"SELECT substr(dbopt_uuid_v7()::text, 15, 1)"),
	'7', 'keys are made');

# Whatever needs workers or shared memory.
foreach my $statement (
	"SELECT dbopt_register_handler('h', '*', 'on_event(events)')",
	"SELECT dbopt_drain('1 s')",
	'SELECT dbopt_test_connection()',
	"SELECT * FROM dbopt_with_connection('SELECT 1')",
	"SELECT * FROM dbopt_with_transaction('{SELECT 1}')",
	'CALL dbopt_ensure_indexes(wait => true)',
	'SELECT dbopt_report()',
	'SELECT dbopt_prometheus()',
	"SELECT dbopt_circuit_breaker_state('database')",
	"SELECT dbopt_trip_circuit_breaker('database')",
	map { "SELECT * FROM dbopt_$_()" }
	qw(health metrics retry_stats reset_stats circuit_breakers reset_circuit_breaker pool_stats pool_events pool_sessions connection_stats))
{
	my $error = error_of($statement);
	like($error, qr/ERROR:  55000: dbopt is not preloaded/, $statement);
	like($error, $preload, 'with a hint');
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM dbopt_handlers'), '0', 'nothing is half registered');

# Whatever does not.
foreach my $statement (
	'SELECT * FROM dbopt_backlog()', 'SELECT * FROM dbopt_dead_letters', 'SELECT * FROM dbopt_pending_retries',
	'SELECT dbopt_replay_dead_letters()', 'SELECT dbopt_discard_dead_letters()',
	'SELECT dbopt_retry_delay(1)', "SELECT dbopt_is_retryable('40001')",
	"CALL dbopt_with_database_retry('SELECT 1')", "CALL dbopt_with_transaction_retry('SELECT 1')",
	'SELECT * FROM dbopt_index_status()', 'SELECT * FROM dbopt_index_advice()', 'SELECT * FROM dbopt_estimate_indexes()',
	'CALL dbopt_ensure_indexes()', 'CALL dbopt_drop_indexes()',
	q{INSERT INTO dbopt_retry_policy (name) VALUES ('mine')})
{
	is(error_of($statement), '', "works without: $statement");
}

# Indexes of tables that are not small are not forgotten without a word, nor are
# those that fail.
$node->safe_psql('postgres', q{
	CREATE TABLE large AS SELECT 1 AS a;
	CREATE TABLE twice AS SELECT 1 AS a FROM generate_series(1, 2);
	CREATE INDEX twice_other ON twice (a);
	INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES
		('large_a', 'large', '(a)', false), ('twice_a', 'twice', '(a)', true), ('twice_other', 'twice', '(a DESC)', false);
});
my $warnings = error_of(q{SET dbopt.index_inline_pages = 0; CALL dbopt_ensure_indexes('large')});
like($warnings, qr/WARNING:  55000: index "large_a" cannot be built: dbopt is not preloaded/, 'a table that is not small: a warning');
like($warnings, $preload, '... with a hint');
$warnings = error_of(q{CALL dbopt_ensure_indexes('twice')});
like($warnings, qr/WARNING:  \w+: index "twice_a" could not be built: .*\(a\)=\(1\) is duplicated/, 'a duplicate key: a warning');
like($warnings, qr/WARNING:  55000: index "twice_other" cannot be built: dbopt is not preloaded/, 'an index that is to be replaced: a warning');
is($node->safe_psql('postgres', q{SELECT string_agg(status, ' ' ORDER BY name) FROM dbopt_index_status() WHERE table_name IN ('large', 'twice')}),
	'missing failed different', '... and the status of each');
is(error_of(q{CALL dbopt_ensure_indexes('large')}), '', 'a small table: its index is built');
$node->safe_psql('postgres', 'SELECT dbopt_pause()');
$node->safe_psql('postgres', 'SELECT dbopt_resume()');
$node->safe_psql('postgres', "SELECT dbopt_detach_events('events')");

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->restart;
($status, $out, $err) = $node->psql('postgres', q{
	DROP EXTENSION dbopt;
	CREATE SCHEMA "Other Schema";
	CREATE EXTENSION dbopt SCHEMA "Other Schema";
});
is($status, 0, 'extension created in another schema');
unlike($err, qr/WARNING/, 'no warning when preloaded');
like($err, qr/\QSELECT "Other Schema".dbopt_attach_events('public.events')\E/,
	'the call is qualified');
$node->safe_psql('postgres', q{
	SELECT "Other Schema".dbopt_attach_events('public.events');
	SELECT "Other Schema".dbopt_register_handler('h', '*', 'on_event(events)');
});
is( $node->safe_psql('postgres',
		'SELECT state FROM "Other Schema".dbopt_handlers'),
	'ready',
	'works in a schema that is not in the search path');

# Attaching waits for a short time only.
$node->safe_psql('postgres',
	'CREATE TABLE busy (id bigint PRIMARY KEY, event_type text)');
my ($in, $holder_out) = ('', '');
my $timer = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
my $holder = IPC::Run::start(
	[ 'psql', '-X', '-q', '-A', '-t', '-d', $node->connstr('postgres') ],
	'<', \$in, '>', \$holder_out, $timer);
$in = "BEGIN; INSERT INTO busy VALUES (1, 'A'); SELECT 'held';\n";
$holder->pump until $holder_out =~ /held/;
like(
	error_of(q{SET lock_timeout = '100ms'; SELECT "Other Schema".dbopt_attach_events('busy')}),
	qr/55P03: canceling statement due to lock timeout/,
	'a table in use is left alone');
$in = "COMMIT;\n\\q\n";
$holder->finish;
$node->safe_psql('postgres', q{SELECT "Other Schema".dbopt_attach_events('busy')});

$node->stop;
done_testing();
