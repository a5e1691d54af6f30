# OIDs in a restored database are those of its origin: what has them here by
# chance, a role or a table, is nothing to dbopt, before dbopt_resume() either.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dump = PostgreSQL::Test::Utils::tempdir . '/app.dump';
my ($origin, $copy) = map { PostgreSQL::Test::Cluster->new($_) } qw(origin copy);

# The first role that a cluster gets has the same OID everywhere.
my %roles = (origin => 'mailer', copy => 'stranger');
foreach my $node ($origin, $copy)
{
	$node->init;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
	$node->start;
	$node->safe_psql('postgres', "CREATE ROLE $roles{ $node->name } LOGIN");
	$node->safe_psql('postgres', 'CREATE DATABASE app');
}
$copy->safe_psql('postgres', 'CREATE ROLE mailer LOGIN');

sub write_event
{
	my ($node, $table, $type) = @_;

	$node->safe_psql('app', qq{INSERT INTO $table (event_type, aggregate_type, aggregate_id, data)
		VALUES ('$type', 'a', gen_random_uuid(), '{}')});
	return;
}

$origin->safe_psql('app', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('mails', false);
	SELECT dbopt_create_events('others', false);
	GRANT SELECT ON mails TO mailer;
	INSERT INTO dbopt_retry_policy (name, max_attempts, max_delay, base_delay, jitter)
	VALUES ('late', 2, '1 day', '1 day', 'none');
	CREATE FUNCTION mail(e mails) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.event_type = 'LATER' THEN
			RAISE 'secret' USING ERRCODE = '40001';
		END IF;
		RAISE 'secret';
	END $$;
	SELECT dbopt_register_handler('mail', '*', 'mail(mails)', events => 'mails', policy => 'late', run_as => 'mailer');
	GRANT SELECT ON dbopt_dead_letters, dbopt_pending_retries TO PUBLIC;
	GRANT EXECUTE ON FUNCTION dbopt_pause_handler, dbopt_discard_dead_letters TO PUBLIC});
write_event($origin, 'mails', $_) foreach qw(LATER DEAD);
my $failures = q{SELECT handler, event_type, error_message FROM dbopt_pending_retries
	UNION ALL SELECT handler, event_type, error_message FROM dbopt_dead_letters ORDER BY 2};
ok($origin->poll_query_until('app', $failures, "mail|DEAD|secret\nmail|LATER|secret"), 'some events failed');
is($origin->safe_psql('app', "SET ROLE mailer; $failures"),
	"mail|DEAD|secret\nmail|LATER|secret", '... and the handler\'s role sees why');
$origin->command_ok([ 'pg_dump', '-Fc', '-f', $dump, 'app' ], 'dumped');
$copy->command_ok([ 'pg_restore', '-d', 'app', $dump ], 'restored');
is( $copy->safe_psql('app', 'SELECT CAST(CAST(role_oid AS regrole) AS text), role_name FROM dbopt_handler'),
	'stranger|mailer', 'another role has the OID');
is($copy->safe_psql('app', "SET ROLE stranger; $failures"), "mail|DEAD|\nmail|LATER|", '... which sees no errors,');
foreach my $call (q{dbopt_pause_handler('mail')}, q{dbopt_discard_dead_letters('mail')})
{
	my (undef, undef, $stderr) = $copy->psql('app', "\\set VERBOSITY verbose\nSET ROLE stranger; SELECT $call");

	like($stderr, qr/ERROR:  42501: /, "... and may not call $call");
}

# Tables, too, come by the OIDs of others.
$copy->safe_psql('app', q{
	UPDATE dbopt_source SET events_oid = CAST(4294967295 - source_id AS oid);
	UPDATE dbopt_source SET events_oid = CAST('others' AS regclass) WHERE events_name = 'mails'});
$copy->restart;
my $cursors = 'SELECT event_type FROM dbopt_cursor ORDER BY 1';
write_event($copy, 'others', 'STRANGE');
$copy->poll_query_until('app', q{SELECT count(*) FROM pg_stat_activity
	WHERE datname = 'app' AND backend_type = 'dbopt scheduler' AND wait_event_type = 'Extension'}, '1')
  or die 'the scheduler does not rest';
is($copy->safe_psql('app', $cursors), "DEAD\nLATER", 'types of events of another table are none of ours');
foreach my $call (q{dbopt_detach_events('others')}, q{dbopt_replay('mail', '-infinity')})
{
	my (undef, undef, $stderr) = $copy->psql('app', "\\set VERBOSITY verbose\nSELECT $call");

	like($stderr, qr/ERROR:  55000: this database was restored or copied/, "$call has to wait");
}
$copy->safe_psql('app', 'TRUNCATE others');
is($copy->safe_psql('app', "SET ROLE pg_read_all_stats; $failures"),
	"mail|DEAD|secret\nmail|LATER|secret", 'TRUNCATE of another table forgets nothing of ours');

$copy->safe_psql('app', 'SELECT dbopt_resume()');
write_event($copy, 'others', 'STRANGE');
write_event($copy, 'mails', 'NEW');
ok($copy->poll_query_until('app', $failures, "mail|DEAD|secret\nmail|LATER|secret\nmail|NEW|secret"),
	'resumed, each is what its name says: the tables');
is($copy->safe_psql('app', $cursors), "DEAD\nLATER\nNEW", '... with their events');
is($copy->safe_psql('app', "SET ROLE mailer; $failures"),
	"mail|DEAD|secret\nmail|LATER|secret\nmail|NEW|secret", '... and the roles');
$_->stop foreach $origin, $copy;
done_testing();
