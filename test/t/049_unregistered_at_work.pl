# A handler of a table with marks that is unregistered while one of its events
# runs: what becomes of that event is waited for, and nothing is given up unless
# somebody says so.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('unregistered');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_max = 1");
$node->start;
asking($node);

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE todo (id int PRIMARY KEY, event_type text DEFAULT 'T', processed boolean DEFAULT false);
	SELECT dbopt_attach_events('todo');
	CREATE TABLE seen (id int);
	CREATE TABLE mode (fails boolean);
	INSERT INTO mode VALUES (true);
	CREATE FUNCTION handle(e todo) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(1);
		IF (SELECT fails FROM mode) THEN RAISE lock_not_available; END IF;
		INSERT INTO seen VALUES (e.id);
	END $$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, failure_threshold)
	VALUES ('again', 1000, '1 s', '1 s', 'none', 1000000);
	SELECT dbopt_register_handler('handle', 'T', 'handle(todo)', 'todo', policy => 'again')});

my $waiting = q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND backend_type = '%s'};
my $holder = $node->background_psql('postgres');

# Unregisters the handler while it runs event $id; returns what that has said.
sub unregister_at_work
{
	my ($id, $discard) = @_;
	my $other = $node->background_psql('postgres', on_error_stop => 0);

	$holder->query_safe('SELECT pg_advisory_lock(1)');
	sql("INSERT INTO todo VALUES ($id)");
	becomes(sprintf($waiting, 'dbopt session'), '1', "event $id runs");
	$other->query_until(qr/called/, "\\set VERBOSITY verbose\n\\echo called\nSELECT dbopt_unregister_handler('handle', $discard);\n");
	becomes(sprintf($waiting, 'client backend'), '1', '... and whoever unregisters its handler waits');
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	$other->query('SELECT 1');
	my $said = $other->{stderr};
	$other->quit;
	return $said;
}

like(unregister_at_work(1, 'false'), qr/ERROR:  55000: handler "handle" has undelivered events/, 'refused, since the event has failed');
sql('UPDATE mode SET fails = false');
becomes('SELECT count(*) FROM seen', '1', 'it is delivered');
is(sql('SELECT processed FROM todo'), 't', '... and marked');

unlike(unregister_at_work(2, 'false'), qr/ERROR/, 'done, since the event was delivered');
is(sql('SELECT count(*) FROM dbopt_handlers'), '0', '... and the handler is gone');
is(sql('SELECT count(*) FROM seen'), '2', '... after it has seen the event');
is(sql('SELECT count(*) FROM dbopt_retry_queue'), '0', '... and nothing is left of it');

# What comes meanwhile waits for the next handler.
sql(q{
	INSERT INTO todo VALUES (3);
	SELECT dbopt_register_handler('handle', 'T', 'handle(todo)', 'todo', policy => 'again')});
becomes('SELECT count(*) FROM todo WHERE processed', '3', 'another handler goes on');

# Nobody waits for a transaction that is removing a handler, with others' events
# behind him; the handler's wait.
sql(q{
	CREATE TABLE plain (id int PRIMARY KEY, event_type text DEFAULT 'T');
	SELECT dbopt_attach_events('plain');
	CREATE FUNCTION handle(e plain) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (e.id)';
	SELECT dbopt_register_handler('plain', 'T', 'handle(plain)', 'plain')});
my $delivered = q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM seen WHERE id > 3};
my $told = -s $node->logfile;
$holder->query_safe(q{BEGIN; SELECT dbopt_unregister_handler('handle')});
sql('INSERT INTO todo VALUES (4)');
ok($node->wait_for_log(qr/events of handler "handle" wait for a lock on it/, $told), 'a handler is being removed');
sql('INSERT INTO plain VALUES (5)');
becomes($delivered, '5', "another table's events do not wait");
$holder->query_safe('ROLLBACK');
becomes($delivered, '4 5', 'it is not removed, and goes on');
$told = -s $node->logfile;
$holder->query_safe(q{BEGIN; SELECT dbopt_unregister_handler('handle')});
sql('INSERT INTO todo VALUES (6)');
ok($node->wait_for_log(qr/events of handler "handle" wait for a lock on it/, $told), 'it is being removed again');
$holder->query_safe('COMMIT');
sql(q{SELECT dbopt_register_handler('handle', 'T', 'handle(todo)', 'todo', policy => 'again')});
becomes($delivered, '4 5 6', 'and another one gets the event');
no_job_failed($node);

$holder->quit;
$node->stop;
done_testing();
