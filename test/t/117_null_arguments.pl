# Every function with each of its arguments NULL in turn: it does what it does
# without that argument, or raises 22004 and says what to give.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('null_arguments');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_stat_statements, dbopt'\nmax_worker_processes = 16\nfsync = off");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE EXTENSION pg_stat_statements;
	SELECT dbopt_create_events('log', mark_processed => false);
	CREATE FUNCTION handle(log) RETURNS void LANGUAGE sql AS '';
	SELECT dbopt_register_handler('handle', 'A', 'handle(log)');
	CREATE TABLE attachable (id int PRIMARY KEY, event_type text);
	CREATE TABLE attached (id int PRIMARY KEY, event_type text);
	SELECT dbopt_attach_events('attached')});

# Arguments that do, each with what comes of NULL.  (The events table may be left
# out where only one is attached.)
my ($must, $may) = ('22004, with a hint', '00000');
my %functions = (
	dbopt_attach_events => [ q{'attachable'} => $must, q{'id'} => $may ],
	dbopt_circuit_breaker_state => [ q{'handle'} => $may ],
	dbopt_create_events => [ q{'fresh'} => $must, 'false' => $must ],
	dbopt_detach_events => [ q{'attached'} => $must ],
	dbopt_discard_dead_letters => [ q{'handle'} => $may, q{'1'} => $may ],
	dbopt_drain => [ q{'1 min'} => $must ],
	dbopt_estimate_indexes => [ q{'log'} => $may ],
	dbopt_is_retryable => [ q{'40001'} => $must, q{''} => $may, q{'default'} => $must ],
	dbopt_pause_handler => [ q{'handle'} => $must ],
	dbopt_register_handler => [
		q{'other'} => $must, q{'B'} => $must, q{'handle(log)'} => $must, q{'log'} => '42P08, with a hint', q{'event'} => $may,
		'1' => $may, '1' => $may, q{'1 s'} => $may, '0' => $may, q{'now'} => $may, 'false' => $may, 'current_user::regrole' => $may, 'false' => $may ],
	dbopt_replay => [ q{'handle'} => $must, 'now()' => $must ],
	dbopt_replay_dead_letters => [ q{'handle'} => $may, q{'1'} => $may ],
	dbopt_reset_circuit_breaker => [ q{'handle'} => $may ],
	dbopt_resume_handler => [ q{'handle'} => $must ],
	dbopt_retry_delay => [ '1' => $must, q{'default'} => $must, '0.5' => $may ],
	dbopt_slow_queries => [ '1' => $may ],
	dbopt_trip_circuit_breaker => [ q{'handle'} => $must ],
	dbopt_unregister_handler => [ q{'handle'} => $must, 'true' => $may ],
	dbopt_with_connection => [ q{'SELECT 1'} => $must, q{'{}'} => $must ],
	dbopt_with_transaction => [ q{'{SELECT 1}'} => $must, q{'serializable'} => $must ],

	dbopt_drop_indexes => [ q{'log'} => $may ],
	dbopt_ensure_indexes => [ q{'log'} => $may, 'false' => $may ],
	dbopt_with_database_retry => [ q{'SELECT 1'} => $must ],
	dbopt_with_transaction_retry => [ q{'SELECT 1'} => $must, q{'serializable'} => $must ],

	# Called by views and other functions.
	dbopt_delivered_before => [ '1' => $may ],
	dbopt_drop_statement => [ 'NULL' => $may ],
	dbopt_measured_bytes => [ q{'log_pkey'} => $may ],
	dbopt_declared_table => [ q{'log'} => $may ],
	dbopt_named_tables => [ q{'public'} => $may, q{'log'} => $may ],
	dbopt_rebuilt_bytes => [ q{'log_pkey'} => $may ],
	dbopt_statement_columns => [ q{'SELECT 1'} => $may ],
	dbopt_statement_uses => [ 'true' => $may ],
	dbopt_statements => [ 'true' => $may ]);

my %kinds = map { split /\|/ } split /\n/, $node->safe_psql('postgres', q{
	SELECT DISTINCT proname, prokind FROM pg_proc JOIN pg_depend ON objid = pg_proc.oid AND classid = 'pg_proc'::regclass
	 WHERE deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dbopt') AND pronargs > 0});
is(join(' ', sort keys %functions), join(' ', sort keys %kinds), 'all functions with arguments are tried');

# The SQLSTATE, and whether there is a hint.  What a function does is undone.
sub outcome
{
	my ($name, @arguments) = @_;
	my $call = "$name(" . join(', ', @arguments) . ')';
	my ($status, $out, $error) = $node->psql('postgres',
		$kinds{$name} eq 'p' ? "CALL $call;\n\\echo :SQLSTATE" : "BEGIN;\nSELECT * FROM $call;\n\\echo :SQLSTATE\nROLLBACK",
		on_error_stop => 0);

	return (split /\n/, $out)[-1] . ($error =~ /^HINT:  \w/m ? ', with a hint' : '');
}

foreach my $name (sort keys %functions)
{
	my @pairs = @{ $functions{$name} };
	my @arguments = @pairs[ grep { $_ % 2 == 0 } 0 .. $#pairs ];

	is(outcome($name, @arguments), '00000', "$name: without nulls");
	foreach my $i (0 .. $#arguments)
	{
		my @with_null = @arguments;

		$with_null[$i] = 'NULL';
		is(outcome($name, @with_null), $pairs[ 2 * $i + 1 ], "$name: argument " . ($i + 1) . ' is null');
	}
}
is($node->safe_psql('postgres', q{SELECT dbopt_drain('60 s')}), 't', 'the server is well');
unlike(slurp_file($node->logfile), qr/terminated by signal|XX000/, '... and has been all the time');

$node->stop;
done_testing();
