# The log index of a table that is not small is built by a pool session, while
# writers go on; nothing is handed out before it is valid.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('build');
$node->init;
$node->append_conf(
	'postgresql.conf', qq(
shared_preload_libraries = 'dbopt'
dbopt.index_inline_pages = 0
autovacuum = off
));
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE ROLE nologin;
	CREATE TABLE seen (id bigint);
	CREATE FUNCTION make(name text, rows int) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE format('CREATE TABLE %I (id bigint PRIMARY KEY, event_type text)', name);
		EXECUTE format('INSERT INTO %I SELECT n, ''OLD'' FROM generate_series(1, %s) n', name, rows);
		EXECUTE format('CREATE FUNCTION see(e %I) RETURNS void LANGUAGE sql
			AS ''INSERT INTO public.seen VALUES (e.id)''', name);
	END $$;
	CREATE VIEW state AS
		SELECT s.events::text AS name, s.state, s.reason FROM dbopt_sources s;
});

sub becomes
{
	my ($query, $result, $name) = @_;

	ok($node->poll_query_until('postgres', $query, $result), $name)
	  or diag $node->safe_psql('postgres', 'SELECT * FROM state');
}

sub attach
{
	my ($name) = @_;

	$node->safe_psql('postgres',
		"SELECT make('$name', 1000); SELECT dbopt_attach_events('$name');"
		  . " SELECT dbopt_register_handler('$name', '*', 'see($name)', '$name', start_from => 'beginning')"
	);
}

sub add
{
	my ($name, $id) = @_;

	$node->safe_psql('postgres', "INSERT INTO $name VALUES ($id, 'NEW')");
}

# ---- an open transaction keeps the build waiting, and no writer ------------

my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN; CREATE TABLE something (); SELECT make(\'waiting\', 10)');
$old->query_safe('COMMIT; BEGIN; INSERT INTO waiting VALUES (100, \'OLD\')');
$node->safe_psql('postgres',
	"SELECT make('log', 1000)");
my $reader = $node->background_psql('postgres');
$reader->query_safe(
	'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM seen');
$node->safe_psql('postgres',
	"SELECT dbopt_attach_events('log'); SELECT dbopt_register_handler('log', '*', 'see(log)', 'log', start_from => 'beginning')"
);
becomes(
	"SELECT count(*) FROM pg_stat_progress_create_index WHERE relid = 'log'::regclass AND phase LIKE 'waiting for%'",
	1,
	'the build waits for an old snapshot');
is( $node->safe_psql('postgres', q{SELECT state FROM state WHERE name = 'public.log' OR name = 'log'}),
	'building', 'the state says so');
$node->safe_psql('postgres',
	"SET lock_timeout = '3s'; INSERT INTO log VALUES (2000, 'NEW'); UPDATE log SET event_type = 'OTHER' WHERE id = 1; DELETE FROM log WHERE id = 2");
pass('writers go on');
is($node->safe_psql('postgres', 'SELECT count(*) FROM seen'),
	0, 'nothing is handed out');
$reader->query_safe('COMMIT');
$reader->quit;
$old->query_safe('COMMIT');
$old->quit;
becomes('SELECT count(*) FROM seen', 1000,
	'delivery begins by itself when the index is there');
is( $node->safe_psql('postgres',
		"SELECT indisvalid FROM pg_index WHERE indexrelid = 'idx_events_log'::regclass"
	),
	't',
	'under its name');

# ---- a build that fails ----------------------------------------------------

$node->safe_psql(
	'postgres', q{
	TRUNCATE seen;
	CREATE TABLE fail (yes boolean);
	INSERT INTO fail VALUES (true);
	CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM public.fail WHERE yes)
			AND current_setting('application_name') = 'dbopt session' THEN
			RAISE EXCEPTION 'not on a Monday';
		END IF;
	END $$;
	CREATE EVENT TRIGGER forbid ON ddl_command_start WHEN TAG IN ('CREATE INDEX')
		EXECUTE FUNCTION forbid();
});
attach('second');
becomes(
	q{SELECT state || ' ' || (reason LIKE '%not on a Monday%CREATE INDEX CONCURRENTLY%') FROM state WHERE name ~ 'second'},
	'building true',
	'a build that fails leaves state and reason');
$node->safe_psql('postgres', 'UPDATE fail SET yes = false');
becomes('SELECT count(*) FROM seen', 1000, 'it is repeated');
is( $node->safe_psql('postgres',
		q{SELECT state, reason IS NULL FROM state WHERE name ~ 'second'}),
	'ready|t',
	'and then the reason is gone');

# What a build left that was cut off is replaced.
my $blocker = $node->background_psql('postgres');
$blocker->query_safe(
	"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM fail");
$node->safe_psql('postgres', "SELECT make('third', 1000); SELECT dbopt_attach_events('third')");
my $in_work =
  q{SELECT pid FROM pg_stat_progress_create_index WHERE relid = 'third'::regclass AND phase LIKE 'waiting for%'};
becomes("SELECT count(*) FROM ($in_work) p", 1, 'a third index is being built');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM ($in_work) p");
becomes(
	q{SELECT count(*) FROM pg_index WHERE indrelid = 'third'::regclass AND NOT indisvalid},
	1, 'a build that is cut off leaves an invalid index');
$blocker->query_safe('COMMIT');
$blocker->quit;
becomes(q{SELECT state FROM state WHERE name ~ 'third'},
	'ready', 'another is built');
is( $node->safe_psql('postgres',
		q{SELECT count(*), bool_and(indisvalid) FROM pg_index WHERE indrelid = 'third'::regclass}
	),
	'2|t',
	'in its place');

# ---- owners and partitions -------------------------------------------------

$node->safe_psql(
	'postgres', q{
	CREATE TABLE parts (id bigint NOT NULL PRIMARY KEY, event_type text) PARTITION BY RANGE (id);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000);
	CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1000) TO (2000);
	INSERT INTO parts SELECT n, 'OLD' FROM generate_series(1, 1500) n;
	GRANT SELECT ON fail TO nologin;
	GRANT CREATE ON SCHEMA public TO nologin;
	ALTER TABLE parts OWNER TO nologin;
	ALTER TABLE parts_1 OWNER TO nologin;
	ALTER TABLE parts_2 OWNER TO nologin;
	SELECT dbopt_attach_events('parts');
});
becomes(q{SELECT state FROM state WHERE name ~ 'parts'},
	'ready', 'a partitioned table of a role that cannot log in');

# Owners who could not have it built: they lack a right, or their sessions do
# not start.
$node->safe_psql(
	'postgres', q{
	CREATE ROLE hindered LOGIN;
	GRANT SELECT ON fail TO hindered;
	CREATE TABLE others (id bigint NOT NULL PRIMARY KEY, event_type text) PARTITION BY RANGE (id);
	CREATE TABLE others_1 PARTITION OF others FOR VALUES FROM (0) TO (1000);
	INSERT INTO others SELECT n, 'OLD' FROM generate_series(1, 500) n;
	ALTER TABLE others OWNER TO hindered;
	SELECT dbopt_attach_events('others');
});
becomes(q{SELECT state FROM state WHERE name ~ 'others'}, 'ready', 'a table whose partition belongs to another role');
foreach my $hindrance (
	['closed', 'REVOKE CREATE ON SCHEMA public FROM PUBLIC, hindered'],
	['unconnected', 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC'],
	['limited', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC; ALTER ROLE hindered CONNECTION LIMIT 0'])
{
	my ($name, $statement) = @$hindrance;

	$node->safe_psql('postgres', "SELECT make('$name', 10); ALTER TABLE $name OWNER TO hindered;"
		  . " $statement; SELECT dbopt_attach_events('$name')");
	becomes("SELECT state FROM state WHERE name ~ '$name'", 'ready', $statement);
}

# The indexes of partitions become one index, at all levels, and partitions
# that come later have theirs.
my $invalid = q{SELECT count(*) FROM pg_index WHERE NOT indisvalid};
is($node->safe_psql('postgres', $invalid), '0', 'its own index is complete');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE "Geschäft" (id bigint NOT NULL, region text NOT NULL, event_type text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
	CREATE TABLE "Süd" PARTITION OF "Geschäft" FOR VALUES IN ('s') PARTITION BY RANGE (id);
	CREATE TABLE sued_1 PARTITION OF "Süd" FOR VALUES FROM (0) TO (1000);
	CREATE TABLE sued_2 PARTITION OF "Süd" FOR VALUES FROM (1000) TO (2000);
	CREATE TABLE nord PARTITION OF "Geschäft" FOR VALUES IN ('n');
	INSERT INTO "Geschäft" SELECT n, CASE WHEN n % 2 = 0 THEN 's' ELSE 'n' END, 'OLD' FROM generate_series(1, 1500) n;
	SELECT dbopt_attach_events('"Geschäft"', 'id');
});
becomes(q{SELECT state FROM state WHERE name ~ 'Gesch'}, 'ready', 'a table with partitions that are partitioned');
is($node->safe_psql('postgres', $invalid), '0', 'all its indexes are complete');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE west PARTITION OF "Geschäft" FOR VALUES IN ('w');
	CREATE TABLE ost (id bigint NOT NULL, region text NOT NULL, event_type text, log_position bigint NOT NULL DEFAULT 0);
	INSERT INTO ost VALUES (1600, 'o', 'OLD');
	ALTER TABLE "Geschäft" ATTACH PARTITION ost FOR VALUES IN ('o');
	CREATE FUNCTION see_all(e "Geschäft") RETURNS void LANGUAGE sql AS 'INSERT INTO public.seen VALUES (e.id)';
	TRUNCATE seen;
	SELECT dbopt_register_handler('shop', '*', 'see_all("Geschäft")', '"Geschäft"', start_from => 'beginning');
	INSERT INTO "Geschäft" VALUES (2, 'w', 'NEW'), (3, 'o', 'NEW');
});
is($node->safe_psql('postgres', q{SELECT dbopt_drain('180 s')}), 't', 'with partitions that came later');
is($node->safe_psql('postgres', 'SELECT count(*) FROM seen'), '1503', 'all is delivered');
is($node->safe_psql('postgres', $invalid), '0', 'and every index is valid');

# ---- nothing is built while the database is paused -------------------------

$node->safe_psql('postgres',
	"SELECT dbopt_pause(); SELECT make('fourth', 10); SELECT dbopt_attach_events('fourth')");
$node->safe_psql('postgres', 'CREATE TABLE unrelated ()');
is( $node->safe_psql('postgres',
		q{SELECT count(*) FROM pg_index WHERE indrelid = 'fourth'::regclass}),
	1,
	'no index is built in a paused database');
$node->safe_psql('postgres', 'SELECT dbopt_resume()');
becomes(q{SELECT state FROM state WHERE name ~ 'fourth'},
	'ready', 'it is when the database is resumed');

$node->stop;
done_testing();
