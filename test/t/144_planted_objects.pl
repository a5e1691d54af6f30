# Operators and functions that somebody has put where they fit better than
# PostgreSQL's own: neither the install scripts nor a function of dbopt's takes
# one of them for what was meant.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('planted');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt, pg_stat_statements'\nfsync = off");
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

# ---- everything that might fit better ----------------------------------------------

# What the scripts seem to call; and they have operators on such types.
my %called = map { $_ => 1 } join('', map { slurp_file($_) } glob('sql/*.sql')) =~ /\b([a-z_0-9]+)\(/g;
my $functions = join ', ', map { "'$_'" } sort keys %called;
my $types = join ', ', map { "'$_'" } qw(oid regclass name text "char" smallint integer bigint float8 real numeric boolean oid[] name[]
	text[] smallint[] int2vector oidvector timestamptz date interval jsonb regproc regrole regnamespace varchar);

# Each of them does what it stands for, and tells that it was called.
sql(qq{
	CREATE EXTENSION pg_trgm;
	CREATE EXTENSION pg_stat_statements;
	CREATE EXTENSION pgstattuple;
	CREATE ROLE mallory;
	GRANT CREATE ON SCHEMA public TO mallory;
	CREATE TABLE calls (what text, who name);
	GRANT INSERT ON calls TO PUBLIC;
	SET ROLE mallory;
	SET search_path = pg_catalog;
	CREATE FUNCTION public.plant(name text, arguments text[], expression text) RETURNS void LANGUAGE plpgsql AS \$\$
	DECLARE
		result text;
	BEGIN
		EXECUTE format('SELECT pg_typeof(' || expression || ')', 'NULL::' || arguments[1], 'NULL::' || arguments[2]) INTO result;
		EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', name, array_to_string(arguments, ', '), result,
			format('BEGIN INSERT INTO public.calls VALUES (%L, current_user); RETURN ' || expression || '; END',
				concat_ws(' ', arguments[1], name, arguments[2]), '\$1', '\$2'));
		IF cardinality(arguments) = 2 THEN
			EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = public.%I, LEFTARG = %s, RIGHTARG = %s)', name, name, arguments[1],
				arguments[2]);
		END IF;
	EXCEPTION WHEN OTHERS THEN
		NULL;					-- there is nothing it could stand for
	END \$\$;
	SELECT public.plant(o.name, ARRAY[l.type, r.type], '%s OPERATOR(pg_catalog.' || o.name || ') %s')
	  FROM unnest(ARRAY['=', '<>', '<', '>', '<=', '>=', '+', '-', '*', '/', '||', '~', '!~', '<\@', '\@>', '&&', '#']) o(name),
		unnest(ARRAY[$types]) l(type), unnest(ARRAY[$types]) r(type)
	 WHERE NOT EXISTS (SELECT FROM pg_operator p WHERE p.oprname = o.name AND p.oprnamespace = 'pg_catalog'::regnamespace
						AND p.oprleft = l.type::regtype AND p.oprright = r.type::regtype);
	SELECT public.plant(f.name, ARRAY[a.type], 'pg_catalog.' || f.name || '(%s)')
	  FROM unnest(ARRAY[$functions]) f(name), unnest(ARRAY[$types]) a(type)
	 WHERE NOT EXISTS (SELECT FROM pg_proc p WHERE p.proname = f.name AND p.pronamespace = 'pg_catalog'::regnamespace
						AND p.proargtypes::oid[] = ARRAY[a.type::regtype::oid]);
});
sql(q{SELECT 1::bigint / 1::float8, sum(relpages::smallint) FROM pg_class});
like(sql('SELECT DISTINCT what, who FROM calls'), qr{^bigint / float8\|postgres$}m, 'who is careless calls what was planted');
sql('TRUNCATE calls');

# ---- nothing of it is used ---------------------------------------------------------

sql('CREATE EXTENSION dbopt');
is( sql(q{
		SET search_path = pg_catalog;
		CREATE TEMPORARY TABLE planted AS
			SELECT 'pg_proc'::regclass AS classid, oid FROM pg_proc WHERE proowner = 'mallory'::regrole
			UNION ALL SELECT 'pg_operator'::regclass, oid FROM pg_operator WHERE oprowner = 'mallory'::regrole;
		SELECT pg_describe_object(d.classid, d.objid, d.objsubid), pg_describe_object(d.refclassid, d.refobjid, 0)
		  FROM pg_depend d
		 WHERE (d.refclassid, d.refobjid) IN (SELECT classid, oid FROM planted)
		   AND (d.classid, d.objid) NOT IN (SELECT classid, oid FROM planted)}),
	'',
	'nothing that is installed refers to any of it');

# The superuser's search path is the one that is there by default.
sql(q{
	CREATE TABLE log (id int PRIMARY KEY, event_type text NOT NULL, processed boolean DEFAULT false, processed_at timestamptz,
		retry_count int, error_message text, aggregate_type text, aggregate_id text, aggregate_version int, created_at timestamptz DEFAULT now());
	CREATE TABLE seen (id int);
	CREATE FUNCTION see(e jsonb) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
	BEGIN
		INSERT INTO public.seen VALUES ((e ->> 'id')::int);
		IF e ->> 'event_type' = 'BAD' THEN RAISE 'bad'; END IF;
	END $$;
	SELECT dbopt_attach_events('log');
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
		VALUES ('once', 1, '10 ms', '20 ms', 'none', true, 1000000);
	SELECT dbopt_register_handler('see', '*', 'see(jsonb)', 'log', policy => 'once', ordered => true);
	CREATE TABLE plain (id int PRIMARY KEY, event_type text NOT NULL, created_at timestamptz DEFAULT now());
	SELECT dbopt_attach_events('plain');
	SELECT dbopt_register_handler('plain', '*', 'see(jsonb)', 'plain', policy => 'once');
	INSERT INTO plain VALUES (21, 'GOOD');
	CREATE TABLE parent (id int PRIMARY KEY, domain text, name text, status text, deleted_at timestamptz, created_at timestamptz);
	CREATE TABLE child (id int, parent_id int REFERENCES parent);
	INSERT INTO parent SELECT n, n, n FROM generate_series(1, 1000) n;
	INSERT INTO child SELECT n, n FROM generate_series(1, 1000) n;
	CREATE INDEX child_index ON child ((id * 2), parent_id) WHERE parent_id > 7;
	CREATE INDEX child_same ON child ((id * 2), parent_id) WHERE parent_id > 7;
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('parent_index', 'parent', '(lower(name), domain) WHERE id > 7');
	INSERT INTO log (id, event_type, aggregate_type, aggregate_id, aggregate_version)
		SELECT n, CASE WHEN n = 7 THEN 'BAD' ELSE 'GOOD' END, 'a', n, 1 FROM generate_series(1, 20) n;
});
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'events are delivered');
is(sql(q{SET search_path = pg_catalog; SELECT count(*) FROM public.seen}), '20', '... all but the one that fails');
sql('CALL dbopt_ensure_indexes(NULL, true); ANALYZE');
foreach my $function (
	'dbopt_index_advice()', 'dbopt_slow_queries()', 'dbopt_index_status()', 'dbopt_estimate_indexes()',
	"dbopt_rebuilt_bytes('child_index')", "dbopt_measured_bytes('child_index')", 'dbopt_health()', 'dbopt_report()',
	'dbopt_metrics()', 'dbopt_prometheus()', 'dbopt_retry_stats()', 'dbopt_backlog()', 'dbopt_pool_stats()',
	'dbopt_pool_sessions()', 'dbopt_circuit_breakers()', 'dbopt_connection_stats()', 'dbopt_test_connection()',
	"dbopt_with_connection('SELECT 1')", "dbopt_replay('plain', '-infinity')", "dbopt_replay_dead_letters('see')",
	"dbopt_discard_dead_letters('see')", 'dbopt_reset_stats()', 'dbopt_pause()', 'dbopt_resume()', "dbopt_unregister_handler('see', discard => true)", "dbopt_detach_events('log')")
{
	sql("SELECT * FROM $function");
}
foreach my $relation (qw(handlers sources dead_letters pending_retries user_index user_column foreign_key index retry_policy retryable_error))
{
	sql("TABLE dbopt_$relation");
}
is(sql(q{SET search_path = pg_catalog; SELECT DISTINCT what, who FROM public.calls}), '', 'nor does any function or view call it');

$node->stop;
done_testing();
