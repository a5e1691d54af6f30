# An event type that is in the news and then in no log, because its event was
# rolled back with a savepoint or has been deleted, is delivered when it comes
# to stay; and it does not keep the scheduler busy until then.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('types');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nautovacuum = off");
$node->start;

$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE TABLE effects (handler text, id uuid, event_type text);
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE sql
		AS $$ INSERT INTO effects VALUES ('handle', e.id, e.event_type) $$;
	SELECT dbopt_register_handler('handle', '*', 'handle(events)');
	CREATE FUNCTION put(type text) RETURNS void LANGUAGE sql
		AS $$ INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
			VALUES (type, 'test', dbopt_uuid_v7(), '{}') $$;
	SELECT put('Known');
});
drained($node, 'a first type');

# Writes an event that is gone at commit, along with one that stays; and an
# event of the same type once the scheduler has seen the news.
sub delivered_after
{
	my ($type, $statements, $name) = @_;

	$node->safe_psql('postgres', "BEGIN; SELECT put('Known'); $statements COMMIT;");
	drained($node, $name);
	$node->safe_psql('postgres', "SELECT put('$type')");
	drained($node, "$name, and one that stays");
	is($node->safe_psql('postgres', "SELECT count(*) FROM effects WHERE event_type = '$type'"),
		'1', "$name: the one that stays is delivered");
}

delivered_after('RolledBack', q{SAVEPOINT s; SELECT put('RolledBack'); ROLLBACK TO s;},
	'an event rolled back with a savepoint');
delivered_after('Deleted', q{SELECT put('Deleted'); DELETE FROM events WHERE event_type = 'Deleted';},
	'an event deleted at once');
delivered_after('Renamed', q{SELECT put('Renamed'); UPDATE events SET event_type = 'Known' WHERE event_type = 'Renamed';},
	'an event that gets another type');

# A type that other handlers have cursors for, and whose events are deleted, is
# no news when it comes again: who registers meanwhile has to get it all the same.
delivered_after('Dormant', '', 'an event that stays');
$node->safe_psql('postgres', q{
	DELETE FROM events WHERE event_type = 'Dormant';
	CREATE FUNCTION late(e events) RETURNS void LANGUAGE sql
		AS $$ INSERT INTO effects VALUES ('late', e.id, e.event_type) $$;
	SELECT dbopt_register_handler('late', '*', 'late(events)');
});
drained($node, 'with a handler that came later');
$node->safe_psql('postgres', "SELECT put('Dormant')");
drained($node, 'a type that had no event when the handler came');
is( $node->safe_psql('postgres', q{
		SELECT handler, count(*) FROM effects WHERE event_type = 'Dormant' GROUP BY 1 ORDER BY 1}),
	"handle|2\nlate|1",
	'a type that had no event when the handler came is delivered to it');

# The last cursors of such a type go along with their handlers, in the moment
# in which their heir comes.
$node->safe_psql('postgres', "SELECT dbopt_unregister_handler('late')");
delivered_after('Inherited', '', 'an event to be followed by one for an heir');
$node->safe_psql('postgres', q{
	DELETE FROM events WHERE event_type = 'Inherited';
	BEGIN;
	SELECT dbopt_unregister_handler('handle');
	SELECT dbopt_register_handler('heir', '*', 'handle(events)');
	COMMIT;
});
drained($node, 'with an heir');
$node->safe_psql('postgres', "SELECT put('Inherited')");
drained($node, 'a type that an heir has not met');
is($node->safe_psql('postgres', "SELECT count(*) FROM effects WHERE event_type = 'Inherited'"),
	'2', 'a type that an heir has not met is delivered to it');

# A handler that no longer names a type gets no more of it; and goes on where it
# was when it names it again.
delivered_after('Unnamed', '', 'an event of a type that is named');
my $replace = "SELECT dbopt_register_handler('heir', '%s', 'handle(events)', replace => true)";
$node->safe_psql('postgres', sprintf $replace, 'K*');
$node->safe_psql('postgres', "SELECT put('Unnamed'), put('Known')");
drained($node, 'with a handler that names another type');
is($node->safe_psql('postgres', "SELECT count(*) FROM effects WHERE event_type = 'Unnamed'"),
	'1', 'a type that the handler no longer names is not delivered to it');
$node->safe_psql('postgres', sprintf $replace, '*');
drained($node, 'with a handler that names the type again');
is($node->safe_psql('postgres', "SELECT count(*) FROM effects WHERE event_type = 'Unnamed'"),
	'2', 'a type that the handler names again is delivered from where it was');

# How often the log's index was scanned.  What the scheduler has counted is told
# as it ends.
sub scans
{
	my $pid = $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'");

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	$node->poll_query_until('postgres', qq{
		SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler' AND pid <> $pid})
	  or die 'no other scheduler has come';
	drained($node, 'with another scheduler');
	return $node->safe_psql('postgres', q{
		SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'idx_events_log'});
}

my $commits = 500;
my $before = scans();
$node->safe_psql('postgres', qq{
	CREATE PROCEDURE put_in_vain(count int) LANGUAGE plpgsql AS \$\$
	BEGIN
		FOR i IN 1 .. count LOOP
			INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
			VALUES ('Gone', 'test', dbopt_uuid_v7(), '{}');
			DELETE FROM events WHERE event_type = 'Gone';
			COMMIT;
		END LOOP;
	END \$\$;
	CALL put_in_vain($commits);
});
# A look takes a scan for each type and one more, the other scheduler's, too.
cmp_ok(scans() - $before, '<', $commits,
	'a type that never stays is not looked for at each commit');

$node->stop;
done_testing();
