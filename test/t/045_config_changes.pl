# A session that has work for long, while handlers are changed again and again:
# it does not keep what it knew of them.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('config_changes');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_max = 1");
$node->start;
asking($node);

# Each event is a chunk and changes another handler.
sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE log (id int PRIMARY KEY, event_type text DEFAULT 'T');
	SELECT dbopt_attach_events('log');
	CREATE TABLE effects (handler text, id int, kept int);
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects SELECT 'handle', e.id, count(*) FROM pg_backend_memory_contexts WHERE name = 'dbopt config';
		PERFORM dbopt_pause_handler('other');
	END $$;
	SELECT dbopt_register_handler('handle', 'T', 'handle(log)', chunk_size => 1), dbopt_register_handler('other', 'O', 'handle(log)');
	INSERT INTO log SELECT generate_series(1, 200)});
drained($node, 'events that change a handler each');
each_once($node, 'handle', 'log', 'id', 200);
cmp_ok(sql('SELECT max(kept) FROM effects'), '<=', 4, 'what was known of the handlers before is forgotten');
no_job_failed($node);

# A client's session reads what its own statement has changed, and the statement
# fails then.
sql(q{SELECT dbopt_resume_handler('other');
	CREATE FUNCTION fails(bigint) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'it fails'; END $$});
my $client = asked('postgres', on_error_stop => 0);
my $reads = 'fails((SELECT count(*) FROM dbopt_circuit_breakers()))';
my $paused = q{SELECT detail FROM dbopt_health() WHERE check_name = 'paused'};
my $breakers = q{SELECT string_agg(name, ' ' ORDER BY name) FROM dbopt_circuit_breakers()};

$client->query("SELECT dbopt_pause_handler('other'), $reads");
is($client->query($paused), 'nothing is paused', 'it does not keep what was rolled back');
$client->query("BEGIN; SELECT dbopt_pause_handler('other'); SAVEPOINT s");
$client->query("SELECT dbopt_unregister_handler('other'), $reads");
$client->query('ROLLBACK TO s');
is($client->query($breakers), 'database handle other', '... to a savepoint');
is($client->query($paused), 'handlers that are paused: "other"', '... and keeps what was not');
$client->query('ROLLBACK');
is($client->query($paused), 'nothing is paused', '... until that is rolled back, too');
$client->quit;

$node->stop;
done_testing();
