# Handlers, owners of events tables and other roles that want more than is
# theirs: to become somebody else, to see what others' handlers say, to leave
# something for the next job.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('attackers');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_max = 2\ndbopt.pool_idle_timeout = '1 h'\nfsync = off");

# Autovacuum would evaluate what indexes call, too.
$node->append_conf('postgresql.conf', 'autovacuum = off');
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

# What a role is answered: the result, or the error.
sub as_role
{
	my ($role, $statement) = @_;
	my ($status, $out, $error) = $node->psql('postgres', $statement, extra_params => [ '-U', $role ]);

	return $status == 0 ? $out : $error =~ s/^psql:[^ ]* //r;
}

sub drained
{
	my ($what) = @_;

	is(sql(q{SELECT dbopt_drain('60 s')}), 't', $what);
	return;
}

sql(q{
	CREATE ROLE app LOGIN;			-- runs handlers
	CREATE ROLE owner LOGIN;		-- owns events tables
	CREATE ROLE boss;				-- whom app may become
	CREATE ROLE stranger LOGIN;
	GRANT boss TO app;
	CREATE SCHEMA app AUTHORIZATION app;
	CREATE SCHEMA owner AUTHORIZATION owner;
	GRANT USAGE ON SCHEMA owner TO PUBLIC;
	CREATE EXTENSION dbopt CASCADE;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
		VALUES ('once', 1, '10 ms', '20 ms', 'none', true, 1000000);
	GRANT EXECUTE ON FUNCTION dbopt_attach_events, dbopt_register_handler, dbopt_unregister_handler,
		dbopt_replay, dbopt_replay_dead_letters, dbopt_discard_dead_letters, dbopt_pause_handler, dbopt_drain TO app, owner;
	CREATE TABLE log (id int PRIMARY KEY, event_type text NOT NULL, command text);
	SELECT dbopt_attach_events('log');
	GRANT SELECT ON log TO app;
	-- Everybody may tell who it is.
	CREATE TABLE who (n int GENERATED ALWAYS AS IDENTITY, what text, id int, who name DEFAULT current_user, login name DEFAULT session_user);
	GRANT INSERT ON who TO PUBLIC;
	CREATE FUNCTION obey(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.who (what, id) VALUES ('handler', e.id);
		IF e.command IS NOT NULL THEN EXECUTE e.command; END IF;
	END $$;
	SELECT dbopt_register_handler('obey', '*', 'obey(log)', 'log', run_as => 'app', policy => 'once');
});

# ---- becoming another role, from a handler ----------------------------------------

my $id = 0;

# The command's error, or "done".
sub obeys
{
	my ($command) = @_;

	$id++;
	sql("INSERT INTO log VALUES ($id, 'OBEY', \$command\$$command\$command\$)");
	sql(q{SELECT dbopt_drain('60 s')});
	return sql("SELECT coalesce((SELECT error_code || ' ' || error_message FROM dbopt_dead_letters WHERE event_id = '$id'), 'done')");
}

foreach my $command (
	'SET ROLE postgres',
	q{SELECT set_config('role', 'postgres', false)},
	'SET SESSION AUTHORIZATION postgres',
	q{SELECT set_config('session_authorization', 'postgres', true)},
	'SET LOCAL ROLE pg_execute_server_program',
	q{COPY public.who TO PROGRAM 'cat'},
	q{COPY public.who FROM '/etc/passwd'},
	'ALTER ROLE app SUPERUSER',
	'SET session_replication_role = replica',
	'UPDATE public.dbopt_handler SET role_oid = 10',
	'INSERT INTO public.dbopt_index VALUES (1)',
	'SELECT * FROM public.dbopt_dead_letters',
	'SELECT * FROM public.dbopt_retry_queue',
	'SELECT * FROM public.dbopt_retry_stats()',
	q{SELECT public.dbopt_with_connection('SET ROLE postgres')},
	q{SELECT public.dbopt_register_handler('own', '*', 'public.obey(log)', 'log', run_as => 'postgres')})
{
	like(obeys($command), qr/^(42501|42883) /, "a handler may not: $command");
}
foreach my $command ('RESET ROLE', 'RESET SESSION AUTHORIZATION', 'RESET ALL', q{SELECT set_config('role', 'none', false)})
{
	is(obeys("$command; INSERT INTO public.who (what) VALUES ('climbed')"), 'done', "there is nothing to climb back to: $command");
}
is(sql(q{SELECT DISTINCT who, login FROM who}), 'app|app', 'it was app, all the time');

# What would end the session's transaction, or wait for itself, fails.
foreach my $case (
	[ 'COMMIT' => '0A000' ],
	[ 'DO $$ BEGIN COMMIT; END $$' => '2D000' ],
	[ 'LISTEN news' => '0A000' ],
	[ 'DISCARD ALL' => '25001' ],
	[ 'SELECT pg_export_snapshot()' => '25001' ],
	[ q{SELECT public.dbopt_drain('1 h')} => '55000 a handler cannot wait' ],
	[ q{SELECT public.dbopt_unregister_handler('obey', discard => true)} => '55006 handler "obey" cannot remove itself' ])
{
	my ($command, $error) = @$case;

	like(obeys($command), qr/^$error/, "a handler cannot: $command");
}

# A role of its own choice is the handler's as long as its transaction.
sql(q{GRANT INSERT ON who TO boss;
	SELECT dbopt_register_handler('obey', '*', 'obey(log)', 'log', run_as => 'app', policy => 'once', chunk_size => 1, replace => true);
	TRUNCATE who;
	INSERT INTO log SELECT n, 'BOSS', 'SET ROLE boss; SET work_mem = ''7 MB''; SET lock_timeout = ''1 ms''' FROM generate_series(1001, 1020) n});
drained('a handler that becomes a role it is a member of, each time');
is(sql('SELECT count(*), count(DISTINCT id), min(who), max(who) FROM who'), '20|20|app|app', '... begins anew with each chunk');
sql(q{ALTER ROLE app SET role = 'boss'; TRUNCATE who; INSERT INTO log VALUES (1021, 'BOSS')});
drained('a role whose default is to be another');
is(sql('SELECT who, login FROM who'), 'app|app', '... runs handlers as itself');
sql('ALTER ROLE app RESET role; SELECT dbopt_discard_dead_letters()');

# ---- a role that was a superuser ----------------------------------------------------

# Sessions that it has left in the pool have logged in as one.
sql('CREATE ROLE fallen LOGIN SUPERUSER');
my $climb = q{SELECT * FROM dbopt_with_connection('SET SESSION AUTHORIZATION postgres; SELECT current_user AS u')};
is(as_role('fallen', $climb), '{"u": "postgres"}', 'a superuser may become anybody');
sql('ALTER ROLE fallen NOSUPERUSER');
like(as_role('fallen', $climb), qr/permission denied to set session authorization/, 'who is none any longer may not');
sql('ALTER ROLE fallen SUPERUSER');
is(as_role('fallen', $climb), '{"u": "postgres"}', 'and may when it is one again');
sql('DROP ROLE fallen');

# ---- dblink, from the server to itself ---------------------------------------------

# The operating system's user is the server's: a connection that asks for no
# password would be anybody's.
sql('CREATE EXTENSION dblink SCHEMA public; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO app; REVOKE EXECUTE ON FUNCTION dblink_connect_u(text), dblink_connect_u(text, text) FROM app');
my $self = 'host=' . $node->host . ' port=' . $node->port . ' dbname=postgres user=postgres';
like(obeys("SELECT public.dblink_connect('own', '$self')"), qr/^2F003 password (or GSSAPI delegated credentials )?(is )?required/,
	'dblink does not let a handler in as a superuser');
like(obeys("SELECT public.dblink_connect_u('own', '$self')"), qr/^42501 /, '... nor the function that would');
sql('DROP EXTENSION dblink; SELECT dbopt_discard_dead_letters()');

# ---- the owner of the events table ---------------------------------------------------

# Everything that the owner can attach to the table tells who runs it.
as_role('owner', q{
	SET search_path = owner, public;
	CREATE FUNCTION tell(what text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
	DECLARE
		attempt text;
	BEGIN
		INSERT INTO public.who (what) VALUES (what);
		FOREACH attempt IN ARRAY ARRAY['SET ROLE postgres', 'SET LOCAL ROLE app', 'RESET ROLE', 'SET SESSION AUTHORIZATION postgres',
			'RESET SESSION AUTHORIZATION', 'SELECT set_config(''role'', ''postgres'', false)', 'SELECT set_config(''role'', ''none'', true)',
			'SELECT set_config(''session_authorization'', ''postgres'', false)', 'COPY public.who TO PROGRAM ''cat''',
			'SELECT public.dbopt_with_connection(''SELECT 1'')', 'ALTER ROLE owner SUPERUSER', 'SET session_replication_role = replica',
			'DECLARE later CURSOR WITH HOLD FOR SELECT owner.tell(''cursor'')']
		LOOP
			BEGIN
				EXECUTE attempt;
				INSERT INTO public.who (what) VALUES ('after ' || attempt);
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		RETURN true;
	END $$;
	CREATE FUNCTION in_index(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM owner.tell('index'); RETURN $1; END $$;
	CREATE FUNCTION in_predicate(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN owner.tell('predicate'); END $$;
	CREATE FUNCTION in_generated(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM owner.tell('generated'); RETURN $1; END $$;
	CREATE FUNCTION in_check(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN owner.tell('check'); END $$;
	CREATE FUNCTION in_default() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM owner.tell('default'); RETURN 1; END $$;
	CREATE FUNCTION in_policy(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN owner.tell('policy'); END $$;
	CREATE FUNCTION in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN PERFORM owner.tell('trigger ' || TG_WHEN); RETURN NEW; END $$;
	CREATE FUNCTION in_definer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
	BEGIN PERFORM owner.tell('definer'); RETURN NULL; END $$;
	CREATE DOMAIN checked AS int CHECK (owner.tell('domain'));
	CREATE TYPE mood AS ENUM ('good');
	CREATE FUNCTION to_json(mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM owner.tell('cast'); RETURN '"m"'; END $$;
	CREATE CAST (mood AS json) WITH FUNCTION to_json(mood);
	CREATE TABLE events (id int PRIMARY KEY, event_type text, processed boolean DEFAULT false, error_message text,
		value checked DEFAULT in_default(), mood mood DEFAULT 'good', doubled int GENERATED ALWAYS AS (in_generated(id)) STORED,
		CHECK (in_check(value)));
	CREATE INDEX ON events (processed, in_index(id));
	CREATE INDEX ON events (id) WHERE in_predicate(id);
	CREATE TRIGGER before BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION in_trigger();
	CREATE TRIGGER after AFTER UPDATE ON events FOR EACH ROW EXECUTE FUNCTION in_trigger();
	CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION in_trigger();
	CREATE TRIGGER definer AFTER UPDATE ON events FOR EACH ROW EXECUTE FUNCTION in_definer();
	CREATE RULE rule AS ON UPDATE TO events DO ALSO SELECT owner.tell('rule');
	ALTER TABLE events ENABLE ROW LEVEL SECURITY;
	CREATE POLICY policy ON events USING (owner.in_policy(id));
	-- Planted where a careless search path would find them.
	CREATE FUNCTION fake_equals(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN owner.tell('operator'); END $$;
	CREATE OPERATOR = (FUNCTION = fake_equals, LEFTARG = int, RIGHTARG = int);
	CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM owner.tell('function'); RETURN now(); END $$;
	CREATE FUNCTION unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN PERFORM owner.tell('function'); END $$;
	SELECT public.dbopt_attach_events('events');
});
sql(q{
	ALTER ROLE postgres SET search_path = owner, public;
	CREATE FUNCTION public.take_row(e owner.events) RETURNS void LANGUAGE plpgsql AS
		'BEGIN INSERT INTO public.who (what, id) VALUES (''handler'', e.id); IF e.id % 2 = 0 THEN RAISE ''fails''; END IF; END';
	CREATE FUNCTION public.take_json(e jsonb) RETURNS void LANGUAGE plpgsql AS
		'BEGIN INSERT INTO public.who (what, id) VALUES (''handler'', (e ->> ''id'')::int); END';
	SELECT public.dbopt_register_handler('row', 'ROW', 'public.take_row(owner.events)', 'owner.events', policy => 'once');
	SELECT public.dbopt_register_handler('json', 'JSON', 'public.take_json(jsonb)', 'owner.events', policy => 'once');
	TRUNCATE public.who});
as_role('owner', q{INSERT INTO owner.events (id, event_type) SELECT n, CASE WHEN n <= 5 THEN 'ROW' ELSE 'JSON' END FROM generate_series(1, 10) n});
is(sql(q{SELECT public.dbopt_drain('60 s')}), 't', "a superuser's handlers on a table of somebody else's");
is(sql(q{SELECT DISTINCT who FROM public.who WHERE what = 'handler'}), 'postgres', '... run as the superuser');
is( sql(q{SELECT string_agg(DISTINCT what, ', ' ORDER BY what) FROM public.who WHERE login = 'postgres' AND what <> 'handler'}),
	'cast, check, definer, generated, index, predicate, rule, trigger AFTER, trigger BEFORE',
	'... and much of what the table brings with it');
is(sql(q{SELECT DISTINCT who FROM public.who WHERE what <> 'handler'}), 'owner', '... as the owner of the table');
is(sql('SELECT count(*) FROM owner.events WHERE processed'), '8', '... so that events are marked');
sql('ALTER ROLE postgres RESET search_path');

# ---- the owner of a table that gets an index --------------------------------------------

# Built by the pool: as the owner who can log in, or by a superuser's session
# for one who cannot; inside CALL dbopt_ensure_indexes(), by its caller.
sql(q{
	CREATE ROLE sleeper;
	CREATE SCHEMA sleeper AUTHORIZATION sleeper;
	GRANT INSERT ON dbopt_index TO owner;
	GRANT USAGE ON SCHEMA owner TO sleeper;
	SET ROLE sleeper;
	CREATE TABLE sleeper.things (id int);
	INSERT INTO sleeper.things SELECT generate_series(1, 3);
	RESET ROLE;
	SET ROLE owner;
	CREATE TABLE owner.things AS SELECT generate_series(1, 3) AS id;
	RESET ROLE;
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('idx_sleeper', 'sleeper.things', '(owner.in_index(id)) WHERE owner.in_predicate(id)')});
as_role('owner', q{INSERT INTO public.dbopt_index (name, table_name, definition) VALUES ('idx_owner', 'owner.things', '(owner.in_index(id)) WHERE owner.in_predicate(id)')});
like(as_role('owner', q{INSERT INTO public.dbopt_index (name, table_name, definition) VALUES ('idx_other', 'sleeper.things', '(id)')}),
	qr/must be owner of table "things"/, 'nobody declares an index for the table of somebody else');
foreach my $pages (0, 1000)
{
	sql(qq{ALTER DATABASE postgres SET dbopt.index_inline_pages = $pages; DROP INDEX IF EXISTS owner.idx_owner, sleeper.idx_sleeper; TRUNCATE who});
	sql('CALL dbopt_ensure_indexes(NULL, true)');
	is(sql(q{SELECT string_agg(name || ' ' || status, ', ' ORDER BY name) FROM dbopt_index_status() WHERE table_name IN ('sleeper.things', 'owner.things')}),
		'idx_owner valid, idx_sleeper valid', "indexes are built, tables up to $pages pages at once");
	is(sql(q{SELECT count(*) FROM who WHERE who NOT IN ('owner', 'sleeper')}), '0',
		'... and nobody but the owners of the tables runs what is in them');
	is(sql(q{SELECT string_agg(DISTINCT what, ', ' ORDER BY what) FROM who}), 'index, predicate', '... which was run');
}

# ---- what others' handlers say --------------------------------------------------------

sql(q{
	GRANT SELECT ON dbopt_dead_letters, dbopt_pending_retries TO app, owner, stranger;
	GRANT EXECUTE ON FUNCTION dbopt_retry_stats TO app, owner, stranger;
	CREATE FUNCTION app.secret(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'the % of app', 'secret'; END $$;
	ALTER FUNCTION app.secret OWNER TO app;
	GRANT SELECT, UPDATE ON owner.events TO app;
	GRANT USAGE ON SCHEMA app TO PUBLIC;
	ALTER TABLE owner.events DISABLE ROW LEVEL SECURITY;
	SELECT dbopt_register_handler('secret', 'SECRET', 'app.secret(jsonb)', 'owner.events', policy => 'once', run_as => 'app')});
as_role('owner', q{INSERT INTO owner.events (id, event_type) VALUES (101, 'SECRET')});
drained("a handler of app's on the owner's table");
my $letter = q{SELECT handler, event_id, error_code, error_message FROM dbopt_dead_letters WHERE handler = 'secret'};
my $stats = q{SELECT last_error_code, last_error FROM dbopt_retry_stats() WHERE handler = 'secret'};
foreach my $case ([ app => 'secret|101|P0001|the secret of app', 'P0001|the secret of app' ], [ owner => 'secret|101||', '|' ], [ stranger => 'secret|101||', '|' ])
{
	my ($role, $seen, $counted) = @$case;

	is(as_role($role, $letter), $seen, "a dead letter, seen by $role");
	is(as_role($role, $stats), $counted, "the statistics, seen by $role");
}
foreach my $function (qw(health report metrics prometheus pool_sessions index_status backlog connection_stats circuit_breakers))
{
	sql("GRANT EXECUTE ON FUNCTION dbopt_$function TO stranger");
	unlike(as_role('stranger', "SELECT * FROM dbopt_$function()"), qr/secret of app|permission denied/, "dbopt_$function() tells a stranger nothing of it");
}
unlike(slurp_file($node->logfile), qr/the secret of app/, 'the log does not tell it, either');
like(as_role('owner', q{SELECT dbopt_register_handler('secret', 'SECRET', 'app.secret(jsonb)', 'owner.events', replace => true)}),
	qr/permission denied to replace handler "secret".*It runs as role "app"/s, "the table's owner cannot put another handler in its place");
is(as_role('owner', $letter), 'secret|101||', '... and inherit what it said');
is(as_role('app', q{SELECT dbopt_register_handler('secret', 'SECRET', 'app.secret(jsonb)', 'owner.events', replace => true)}), '', 'app itself can');
is(as_role('owner', q{SELECT dbopt_unregister_handler('secret', discard => true)}), '', 'the owner can remove it');
is(sql($letter), '', '... with all it said');

$node->stop;
done_testing();
