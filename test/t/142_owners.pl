# Owners and rights that change: the extension, the events table and the
# handler belong to different roles, who give away what they have, lose it, or
# are given more than anybody meant to.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('owners');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nfsync = off");
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE admin SUPERUSER LOGIN; CREATE ROLE other_admin SUPERUSER LOGIN; CREATE DATABASE app OWNER admin');

sub as_role
{
	my ($role, $statement) = @_;

	return $node->safe_psql('app', $statement, extra_params => [ '-U', $role ]);
}

sub sql
{
	my ($statement) = @_;

	return as_role('other_admin', $statement);
}

sub refused
{
	my ($role, $statement, $error, $name) = @_;
	my ($status, $out, $stderr) = $node->psql('app', $statement, extra_params => [ '-U', $role ]);

	like($stderr, $error, $name);
	return;
}

sub becomes
{
	my ($query, $result, $name) = @_;

	ok($node->poll_query_until('app', $query, $result), $name)
	  or diag $node->safe_psql('app', 'SELECT * FROM dbopt_source; SELECT * FROM dbopt_handler');
	return;
}

as_role('admin', q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE ROLE owner LOGIN;
	CREATE ROLE heir LOGIN;
	CREATE ROLE worker LOGIN;
	GRANT CREATE, USAGE ON SCHEMA public TO owner, heir, worker;
	GRANT EXECUTE ON FUNCTION dbopt_attach_events, dbopt_register_handler TO owner, worker;
});
as_role('owner', q{
	CREATE TABLE events (id int PRIMARY KEY, event_type text, processed boolean DEFAULT false, marker name);
	SELECT dbopt_attach_events('events');
	CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.marker = current_user; RETURN NEW; END $$;
	CREATE TRIGGER mark BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION mark();
	GRANT SELECT, UPDATE ON events TO worker;
});
as_role('worker', q{
	CREATE TABLE seen (id int, who name DEFAULT current_user);
	CREATE FUNCTION see(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.seen VALUES (e.id);
		IF e.event_type = 'B' THEN RAISE 'the secret of worker' USING ERRCODE = 'check_violation'; END IF;
	END $$;
	SELECT dbopt_register_handler('see', '*', 'see(events)');
});

my $id = 0;

# An event comes, and is handled and marked by whom it should be.
sub delivers
{
	my ($what, $marker) = @_;

	$id++;
	sql("INSERT INTO events VALUES ($id, 'A')");
	becomes("SELECT who FROM seen WHERE id = $id", 'worker', "$what: handled as the handler's role");
	becomes("SELECT marker FROM events WHERE id = $id AND processed", $marker, "$what: marked as $marker");
	return;
}

delivers('extension, table and handler of three roles', 'owner');

# ---- a grant that is too large ---------------------------------------------------

sql(q{INSERT INTO events VALUES (-1, 'B');
	GRANT ALL ON ALL TABLES IN SCHEMA public TO owner; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO owner});
becomes('SELECT count(*) FROM dbopt_dead_letters', '1', 'a dead letter');
foreach my $table (qw(handler source cursor cursor_version chunk retry_queue dead_letter ordered attempt database index_state build_rate))
{
	is(as_role('owner', "SELECT count(*) FROM dbopt_$table"), '0', "GRANT ALL does not show what is in dbopt_$table");
	refused('owner', "CREATE TRIGGER mark BEFORE UPDATE ON dbopt_$table FOR EACH ROW EXECUTE FUNCTION mark()",
		qr/table "dbopt_$table" belongs to extension "dbopt"/, '... nor lets anybody put a trigger on it');
}
is(as_role('owner', q{WITH changed AS (UPDATE dbopt_handler SET role_oid = 10 RETURNING 1) SELECT count(*) FROM changed}), '0',
	'it changes no handler');
refused('owner', q{INSERT INTO dbopt_handler (name, event_type, source_id, function_oid, function_schema, function_name, argument_kind, role_oid,
	role_name, policy, start_position) SELECT 'own', '*', 1, 0, '', '', 'row', 10, 'postgres', 'event', 0}, qr/row-level security policy/, '... and adds none');
refused('owner', 'CREATE TABLE refers (id int REFERENCES dbopt_source)', qr/table "dbopt_source" belongs to extension "dbopt"/, 'nor can it be referred to');
is(as_role('owner', 'SELECT handler, error_message IS NULL FROM dbopt_dead_letters'), 'see|t', 'the view keeps the error from who may read it');
is(as_role('admin', 'SELECT error_message FROM dbopt_dead_letters'), 'the secret of worker', '... and shows it to who installed it');
delivers('after the grant', 'owner');

# ---- the extension is given away -------------------------------------------------

sql('CREATE FUNCTION pry(e events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (-1000); END $$; REASSIGN OWNED BY admin TO heir');
becomes('SELECT state FROM dbopt_sources', 'broken', 'tables that belong to no superuser');
is(sql('SELECT reason FROM dbopt_handlers'), 'the tables of dbopt belong to "heir", who is no superuser: REASSIGN OWNED has to give them to one',
	'... break everything, and say why');
as_role('heir', q{UPDATE dbopt_source SET state = 'ready', reason = NULL;
	UPDATE dbopt_handler SET role_oid = 10, role_name = 'postgres', function_oid = 'pry'::regproc, function_name = 'pry(events)'});
sql(q{INSERT INTO events VALUES (1000, 'A')});
is(sql(q{SELECT dbopt_drain('60 s')}), 't', '... whatever their owner writes to them');
is(sql('SELECT count(*) FROM seen WHERE id IN (1000, -1000)'), '0', 'nobody is made to run anything');
as_role('heir', q{UPDATE dbopt_handler SET role_oid = 'worker'::regrole, role_name = 'worker', function_oid = 'see'::regproc, function_name = 'see(events)'});
sql('REASSIGN OWNED BY heir TO other_admin');
becomes('SELECT state FROM dbopt_sources', 'ready', 'another superuser has them');
becomes('SELECT who FROM seen WHERE id = 1000', 'worker', '... and what waited is delivered');
delivers('under a new owner of the extension', 'owner');
sql('DROP ROLE admin');
delivers('when the one who installed it is gone', 'owner');

# ---- the events table is given away -----------------------------------------------

sql('REASSIGN OWNED BY owner TO heir');
delivers('another owner of the events table', 'heir');
sql('DROP OWNED BY owner CASCADE; DROP ROLE owner');
delivers('the old owner is gone', 'heir');

# ---- the handler's role loses everything -------------------------------------------

sql(q{ALTER TABLE seen OWNER TO heir; GRANT INSERT ON seen TO worker; ALTER FUNCTION see OWNER TO heir; DROP OWNED BY worker});
sql("INSERT INTO events VALUES (2000, 'A')");
becomes(q{SELECT state FROM dbopt_handlers}, 'broken', 'DROP OWNED takes the role its rights');
like(sql('SELECT reason FROM dbopt_handlers'), qr/^its role may not (read|update) the events table/, '... which is said');
sql(q{GRANT SELECT, UPDATE ON events TO worker; GRANT INSERT ON seen TO worker; SELECT dbopt_resume_handler('see')});
becomes('SELECT who FROM seen WHERE id = 2000', 'worker', '... and mended');

# ---- everything is dropped ---------------------------------------------------------

sql(q{SELECT dbopt_pause(); INSERT INTO events VALUES (3000, 'A'); SELECT dbopt_resume(); DROP OWNED BY heir CASCADE});
becomes('SELECT state FROM dbopt_handlers', 'broken', 'DROP OWNED takes table and function');
like(sql('SELECT reason FROM dbopt_handlers'), qr/unregister|missing/, '... which is said');
is(sql(q{SELECT dbopt_drain('60 s')}), 't', '... and nothing waits for it');
sql(q{SELECT dbopt_unregister_handler('see', discard => true); DROP ROLE worker, heir});
becomes('SELECT count(*) FROM dbopt_source', '0', 'nothing is left of it');

# ---- the extension's schema ----------------------------------------------------------

$node->safe_psql('postgres', q{
	CREATE SCHEMA home; CREATE EXTENSION pg_trgm; CREATE EXTENSION dbopt SCHEMA home;
	SELECT home.dbopt_create_events('public.log', false);
	CREATE TABLE seen (id uuid);
	CREATE FUNCTION see(e log) RETURNS void LANGUAGE sql AS 'INSERT INTO public.seen VALUES (e.id)';
	SELECT home.dbopt_register_handler('see', '*', 'see(log)')});
my ($status, $out, $error) = $node->psql('postgres', 'ALTER EXTENSION dbopt SET SCHEMA public');
like($error, qr/extension "dbopt" does not support SET SCHEMA/, 'the extension stays in its schema');
is( $node->safe_psql('postgres', q{ALTER SCHEMA home RENAME TO house;
	INSERT INTO log (event_type, aggregate_type, aggregate_id, data) VALUES ('A', 'a', gen_random_uuid(), '{}');
	SELECT house.dbopt_drain('60 s');
	SELECT count(*) FROM seen}),
	"t\n1", 'which may have another name');

$node->stop;
done_testing();
