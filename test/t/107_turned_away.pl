# A chunk that is left over, and a session that has been told to run it and finds
# that it may not, since its handler has been replaced meanwhile: another one
# runs it, as the handler's new role.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('turned_away');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_min = 1\ndbopt.pool_max = 3");
$node->start;
asking($node);

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE log (id int PRIMARY KEY, event_type text NOT NULL);
	SELECT dbopt_attach_events('log');
	CREATE TABLE effects (id int, role name DEFAULT current_user);
	CREATE ROLE app LOGIN;
	GRANT SELECT ON log TO app;
	GRANT INSERT ON effects TO app;
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.id = 1 THEN RAISE lock_not_available; END IF;
		INSERT INTO effects VALUES (e.id);
	END $$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, failure_threshold, reset_timeout)
	VALUES ('careful', 3, '1 h', '1 h', 'none', 1, '1 h');
	SELECT dbopt_register_handler('handle', 'T', 'handle(log)', policy => 'careful');
	SELECT dbopt_register_handler('beside', 'BESIDE', 'handle(log)')});

# The first event of a chunk opens the breaker, which leaves the others over.
sql(q{INSERT INTO log SELECT n, 'T' FROM generate_series(1, 4) n});
becomes(q{SELECT dbopt_circuit_breaker_state('handle')}, 'OPEN', 'an event has failed');
becomes(q{SELECT string_agg(state, ' ') FROM dbopt_pool_sessions()}, 'idle', '... and a session is idle');
is(sql('SELECT count(*) FROM dbopt_chunk'), '1', '... which has left the rest over');

# It stands still, and is told to run that.
my $stopped = sql('SELECT pid FROM dbopt_pool_sessions()');
kill 'STOP', $stopped;
END { kill 'CONT', $stopped if defined $stopped; }
sql(q{SELECT dbopt_reset_circuit_breaker('handle')});
becomes(qq{SELECT job FROM dbopt_pool_sessions() WHERE pid = $stopped}, 'leftover', 'it is to run that');
sql(q{
	SELECT dbopt_register_handler('handle', 'T', 'handle(log)', run_as => 'app', replace => true);
	INSERT INTO log VALUES (5, 'BESIDE')});
becomes(q{SELECT count(*) FROM effects WHERE id = 5}, '1', 'the scheduler knows that the handler has been replaced');
kill 'CONT', $stopped;
becomes('SELECT count(*) FROM dbopt_chunk', '0', 'the chunk is run all the same');
is(sql(q{SELECT string_agg(id || ' ' || role, ', ' ORDER BY id) FROM effects WHERE id < 5}), '2 app, 3 app, 4 app', '... each event once, by another session');
no_job_failed($node);

$node->stop;
done_testing();
