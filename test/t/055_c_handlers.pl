# Handlers in C: those that do well are delivered to as any other, and those
# that misbehave as only C can harm nobody but themselves.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Crashing;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TestModule;
use Test::More;

my $dir = build_module();

my $node = PostgreSQL::Test::Cluster->new('c');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
restart_after_crash = on
dbopt.pool_max = 4
});
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

sub becomes
{
	my ($query, $expected, $name) = @_;

	ok($node->poll_query_until('postgres', $query, $expected), $name)
	  or diag(sql('SELECT * FROM dbopt_retry_stats(); SELECT * FROM dbopt_pending_retries; SELECT * FROM dbopt_chunk'));
	return;
}

sub drained
{
	my ($what) = @_;

	is(sql("SELECT dbopt_drain('180 s')"), 't', $what);
	return;
}

sql(qq{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE events (id int PRIMARY KEY, event_type text NOT NULL, act text NOT NULL DEFAULT 'succeed', arg text NOT NULL DEFAULT '');
	SELECT dbopt_attach_events('events');
	CREATE TABLE done (id int);
	CREATE TABLE memory (bytes bigint);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('quick', 3, '10 ms', '20 ms', 'none', true, 1000000), ('once', 1, '10 ms', '20 ms', 'none', true, 1000000);
	CREATE FUNCTION handle_row(events) RETURNS int LANGUAGE c STRICT AS '$dir/dbopt_test.so';
	CREATE FUNCTION handle_array(events[]) RETURNS int LANGUAGE c STRICT AS '$dir/dbopt_test.so';
	CREATE FUNCTION handle_jsonb(jsonb) RETURNS void LANGUAGE c STRICT AS '$dir/dbopt_test.so';
});

# Writes events of a type, in one chunk, and on either side of them one that
# succeeds.
my $id = 0;

sub insert
{
	my ($type, @acts) = @_;
	my @values;

	foreach my $act ([], @acts, [])
	{
		$id++;
		push @values, sprintf "(%d, '%s', '%s', '%s')", $id, $type, $$act[0] // 'succeed', $$act[1] // '';
	}
	sql('INSERT INTO events VALUES ' . join ', ', @values);
	return;
}

# Those of a type that are done more or less than once, although their act is
# (or is not) that of an event that fails.
sub not_once
{
	my ($type, $failing) = @_;

	return sql(qq{SELECT count(*) FROM events e
		WHERE event_type = '$type' AND (SELECT count(*) FROM done WHERE id = e.id) <> CASE WHEN act $failing THEN 0 ELSE 1 END});
}

sub dead
{
	my ($handler, $column) = @_;

	return sql(qq{SELECT string_agg(DISTINCT $column, ' ' ORDER BY $column) FROM dbopt_dead_letters WHERE handler = '$handler'});
}

my $stats = 'SELECT attempts, successes, failures, retries, dead_letters FROM dbopt_retry_stats() WHERE handler =';

# ---- a row, an array of rows, and JSON -------------------------------------

foreach my $kind (qw(row array jsonb))
{
	my $argument = { row => 'events', array => 'events[]', jsonb => 'jsonb' }->{$kind};

	sql("SELECT dbopt_register_handler('$kind', '\U$kind\E', 'handle_$kind($argument)', policy => 'quick')");
	insert("\U$kind\E", map { $_ == 50 ? [ 'fail', '55P03' ] : [] } (1 .. 100));
	drained("a handler in C that takes $kind");
	is(not_once("\U$kind\E", q{= 'fail'}), '0', '... each event is delivered once');
	is(sql("$stats '$kind'"), '104|101|3|2|1', '... and counted; what fails is retried');
	is(dead($kind, q{error_code || ': ' || error_message}), '55P03: failed in C', '... and given up with its error');
}

# ---- a hard life -------------------------------------------------------------

sql(q{SELECT dbopt_register_handler('fails', 'FAILS', 'handle_row(events)', policy => 'quick')});
insert(
	'FAILS',
	[ 'recurse', 'x' ],
	[ 'allocate', '1073741824' ],
	['commit'],
	[ 'fail_in_subtransactions', 1 ],
	[ 'fail_in_subtransactions', 3 ],
	[ 'leave_subtransactions', 1 ],
	[ 'leave_subtransactions', 3 ],
	['unknown']);
drained('handlers that fail in many ways');
is(not_once('FAILS', q{<> 'succeed'}), '0', '... harm no other event');
is( sql(q{SELECT string_agg(act || ': ' || error_code || ' ' || error_message, E'\n' ORDER BY id)
		FROM dbopt_dead_letters JOIN events ON id = event_id::int WHERE handler = 'fails'}),
	q{recurse: 54001 stack depth limit exceeded
allocate: XX000 invalid memory alloc request size 1073741824
commit: 2D000 cannot commit while a subtransaction is active
fail_in_subtransactions: 55P03 failed in C
fail_in_subtransactions: 55P03 failed in C
leave_subtransactions: 2D000 the function has left a subtransaction open
leave_subtransactions: 2D000 the function has left a subtransaction open
unknown: XX000 nobody knows how to "unknown"},
	'... which say why');

sql(q{SELECT dbopt_register_handler('leaves', 'LEAVES', 'handle_row(events)', policy => 'quick', max_concurrency => 1)});
insert('LEAVES', map { ( ['stay_elsewhere'], ['leave_spi_open'], ['leave_snapshot'], [ 'allocate', '1073741823' ] ) } (1 .. 10));
drained('handlers that leave things behind');
is(not_once('LEAVES', 'IS NULL'), '0', '... succeed for each event');
is(sql("$stats 'leaves'"), '42|42|0|0|0', '... at the first attempt');

# ---- texts that are none, and long ones ---------------------------------------

my @texts = ('~', 'a~', '~a', 'ä~ä', ('x' x 4095) . '~', '~' x 5000, ('€' x 1365) . '~€');
sql(q{SELECT dbopt_register_handler('texts', 'TEXTS', 'handle_row(events)', policy => 'quick')});
insert('TEXTS', map { [ 'fail_with_bytes', $_ ] } @texts);
drained('error messages that are no valid text');
is(not_once('TEXTS', q{<> 'succeed'}), '0', '... are failures as any other');
is( sql(q{SELECT string_agg(CASE WHEN length(error_message) < 10 THEN error_message
			ELSE length(error_message) || ' ' || octet_length(error_message) || ' ' || right(error_message, 2) END, ', ' ORDER BY event_id::int)
		FROM dbopt_dead_letters WHERE handler = 'texts'}),
	'?, a?, ?a, ä?ä, 4096 4096 x?, 4096 4096 ??, 1366 4096 €?', '... and kept with a question mark for each wrong byte');
is(sql(q{SELECT count(convert_from(convert_to(error_message, 'UTF8'), 'UTF8')) FROM dbopt_dead_letters WHERE handler = 'texts'}),
	scalar @texts, '... so that they can be dumped and restored');
is(sql(q{SELECT count(convert_from(convert_to(last_error, 'UTF8'), 'UTF8')) FROM dbopt_retry_stats() WHERE handler = 'texts'}),
	'1', '... and shown in the statistics');

# What has failed is kept until its transaction ends, in which the last of the
# events looks at the memory.
sql(q{SELECT dbopt_register_handler('long', 'LONG', 'handle_row(events)', policy => 'once', max_concurrency => 1)});
insert('LONG', ( map { ['fail_at_length'] } (1 .. 6) ), ['measure']);
drained('messages, details and hints of 10 MB');
is(not_once('LONG', q{= 'fail_at_length'}), '0', '... are failures as any other');
is(dead('long', q{octet_length(error_message) || ' ' || error_code}), '4096 55P03', '... and cut');
cmp_ok(sql('SELECT max(bytes) FROM memory'), '<', 100_000_000, '... before many of them fill the memory');

# ---- time ------------------------------------------------------------------------

sql(q{SELECT dbopt_register_handler('late', 'LATE', 'handle_row(events)', policy => 'quick', timeout => '50 ms')});
insert('LATE', [ 'compute_well', 60000 ], [ 'compute_deaf', 200 ]);
drained('handlers that outlast their timeout');
is(not_once('LATE', q{= 'compute_well'}), '0', '... are cancelled when they look, and finish when they do not');
is(dead('late', 'error_code || error_message'), '57014handler "late" was cancelled by its timeout of 50 ms', '... which is their failure');

# ---- a handler that nothing interrupts ---------------------------------------------

# It computes until there is a certain file.
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->append_conf('postgresql.conf', q{dbopt.shutdown_timeout = '200 ms'});
$node->reload;
sql(q{SELECT dbopt_register_handler('deaf', 'DEAF', 'handle_row(events)', policy => 'quick', chunk_size => 1)});

sub insert_deaf
{
	my ($file) = @_;

	$id++;
	sql("INSERT INTO events VALUES ($id, 'DEAF', 'compute_until', '$dir/$file')");
	becomes("SELECT count(*) FROM pg_ls_dir('$dir') AS name WHERE name = '$file.begun'", '1', 'a handler is at work, and does not look for interrupts');
	return;
}

insert_deaf('drop');
my ($status, $stdout, $stderr) = $node->psql('other', '\\set VERBOSITY verbose' . "\nDROP DATABASE postgres");
like($stderr, qr/55006.*database "postgres" is being accessed by other users/, '... DROP DATABASE waits for it no longer than it may');
append_to_file("$dir/drop", '');
drained('the database works on');
is(sql('SELECT count(*) FROM done JOIN events USING (id) WHERE arg ~ \'drop\''), '1', '... and the event is delivered once');

insert_deaf('stop');
my $offset = -s $node->logfile;
$node->command_ok([ 'pg_ctl', '-D', $node->data_dir, '-m', 'fast', '--no-wait', 'stop' ], 'the server is told to stop');
$node->wait_for_log(qr/aborting any active transactions/, $offset);
append_to_file("$dir/stop", '');
$node->stop('fast');
unlike(slurp_file($node->logfile, $offset), qr/PANIC|was terminated by signal|abnormal/, '... and does when the handler has come to its end');
$node->start;
drained('what it was doing is done again');
is(sql('SELECT count(*) FROM done JOIN events USING (id) WHERE arg ~ \'stop\''), '1', '... once');
is(sql("$stats 'deaf'"), '2|2|0|0|0', 'and none of this was a failure');

# ---- a handler that crashes ----------------------------------------------------------

sql(q{SELECT dbopt_register_handler('crashes', 'CRASHES', 'handle_row(events)', policy => 'quick')});
eval { insert('CRASHES', [], ['crash'], []) };	# psql may still be there when the server crashes
becomes(q{SELECT attempts, error_code FROM dbopt_dead_letters WHERE handler = 'crashes'}, '3|57P02',
	'a handler that crashes the server is given up');
becomes(q{SELECT count(*) FROM done JOIN events USING (id) WHERE event_type = 'CRASHES'}, '4', '... and its neighbours are delivered');
is(not_once('CRASHES', q{= 'crash'}), '0', '... once each');

$node->stop;
done_testing();
