# What a role's events, handlers and statements say is told to nobody else: not
# by any table, view or function of dbopt's, whatever rights on them somebody
# was given by a grant that was too large, and not by the log.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('secrets');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt, pg_stat_statements'
dbopt.index_inline_pages = 0
log_statement = none
log_min_duration_statement = -1
log_min_error_statement = panic
fsync = off
});
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

# All that a role is told: results, errors, notices.
sub told
{
	my ($role, $statement) = @_;
	my ($status, $out, $error) = $node->psql('postgres', $statement, extra_params => [ '-U', $role ]);

	return "$out\n$error";
}

# ---- secrets: a text, and an SQLSTATE ------------------------------------------------

sql(q{
	CREATE ROLE app LOGIN;			-- has secrets
	CREATE ROLE owner LOGIN;		-- owns the events table
	CREATE ROLE stranger LOGIN;
	CREATE ROLE member LOGIN IN ROLE app;
	CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats;
	CREATE SCHEMA app AUTHORIZATION app;
	CREATE SCHEMA owner AUTHORIZATION owner;
	CREATE EXTENSION pg_trgm;
	CREATE EXTENSION pg_stat_statements;
	CREATE SCHEMA dbopt;
	CREATE EXTENSION dbopt SCHEMA dbopt;
	GRANT USAGE ON SCHEMA dbopt, owner TO PUBLIC;
	GRANT ALL ON ALL TABLES IN SCHEMA dbopt TO PUBLIC;
	GRANT ALL ON ALL SEQUENCES IN SCHEMA dbopt TO PUBLIC;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dbopt TO PUBLIC;
	INSERT INTO dbopt.dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
		VALUES ('once', 1, '10 ms', '20 ms', 'none', true, 1000000), ('later', 5, '1 h', '1 h', 'none', true, 1000000);
	INSERT INTO dbopt.dbopt_retryable_error (policy, pattern, retryable) VALUES ('database', 'could not create unique index%', false);
});
like(told('owner', q{
	SET search_path = owner, dbopt, public;
	CREATE TABLE events (id text PRIMARY KEY, event_type text NOT NULL, created_at timestamptz DEFAULT now());
	SELECT dbopt_attach_events('events');
	GRANT SELECT ON events TO app;
}), qr/^\s*$/, 'an events table');
like(told('app', q{
	SET search_path = app, dbopt, public;
	CREATE FUNCTION fail(e owner.events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.event_type = 'WAIT' THEN PERFORM pg_advisory_xact_lock(1), 'topsecret'; END IF;
		RAISE 'topsecret of %', e.id USING ERRCODE = 'XS001', DETAIL = 'topsecret', HINT = 'topsecret';
	END $$;
	SELECT dbopt_register_handler('once', 'ONCE', 'app.fail(owner.events)', 'owner.events', policy => 'once');
	SELECT dbopt_register_handler('later', 'LATER', 'app.fail(owner.events)', 'owner.events', policy => 'later');
	SELECT dbopt_register_handler('wait', 'WAIT', 'app.fail(owner.events)', 'owner.events', policy => 'later');
	CREATE TABLE twice (word text);
	INSERT INTO twice VALUES ('topsecret'), ('topsecret');
	INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES ('idx_twice', 'app.twice', '(word)', true);
}), qr/^\s*$/, 'handlers, and an index');
sql(q{INSERT INTO owner.events SELECT t || n, t FROM unnest(ARRAY['ONCE', 'LATER']) t, generate_series(1, 3) n});
ok($node->poll_query_until('postgres', q{SELECT (SELECT count(*) FROM dbopt.dbopt_dead_letters), (SELECT count(*) FROM dbopt.dbopt_pending_retries)}, '3|3'),
	'events that have failed');
told('app', 'CALL dbopt.dbopt_ensure_indexes(NULL, true)');
is(sql(q{SELECT status FROM dbopt.dbopt_index_status() WHERE name = 'idx_twice'}), 'failed', 'an index that could not be built');

# One that is running, and a caller's statement that is.
my $lock = $node->background_psql('postgres', on_error_die => 1);
$lock->query_safe('BEGIN; SELECT pg_advisory_xact_lock(1)');
sql(q{INSERT INTO owner.events VALUES ('WAIT', 'WAIT')});
my $caller = $node->background_psql('postgres', on_error_stop => 0, extra_params => [ '-U', 'app' ]);
$caller->query_until(qr/sent/, qq{\\echo sent
SELECT dbopt.dbopt_with_connection('SELECT pg_advisory_xact_lock(1), ''topsecret'' || \$1', '{topsecret}');
});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND wait_event = 'advisory'}),
	'a handler and a statement that wait');
like(told('app', q{SELECT dbopt.dbopt_with_connection('SELECT ''topsecret''::int')}), qr/topsecret/, 'a statement that fails');
like(told('app', q{CALL dbopt.dbopt_with_database_retry('SELECT ''topsecret''::int')}), qr/topsecret/, '... also in its own session');
like(told('app', q{CALL dbopt.dbopt_with_database_retry($call$
	DO $$ BEGIN RAISE 'connection timeout, topsecret' USING ERRCODE = 'XS001', DETAIL = 'topsecret'; END $$$call$)}),
	qr/topsecret/, '... also when it is tried again');

# ---- who is told ----------------------------------------------------------------------

my @relations = split /\n/, sql(q{
	SELECT d.objid::regclass FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
	 WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dbopt') AND d.classid = 'pg_class'::regclass
	   AND d.deptype = 'e' AND c.relkind IN ('r', 'v') ORDER BY 1});
# Calls of all that does not change anything; arguments by type.
my @calls = split /\n/, sql(q{
	SELECT p.oid::regproc || '(' || coalesce((
			SELECT string_agg(CASE WHEN t::regtype = 'regclass'::regtype THEN
					CASE WHEN p.proname ~ 'bytes' THEN '''owner.events_pkey''' ELSE 'NULL' END
				WHEN t::regtype = 'boolean'::regtype THEN 'true'
				WHEN t::regtype IN ('integer'::regtype, 'bigint'::regtype, 'double precision'::regtype) THEN '1'
				WHEN t::regtype = 'timestamptz'::regtype THEN '''-infinity'''
				WHEN t::regtype = 'text[]'::regtype THEN '''{}'''
				WHEN t::regtype = 'interval'::regtype THEN '''1 ms'''
				ELSE '''once''' END, ', ' ORDER BY place)
			FROM unnest(p.proargtypes) WITH ORDINALITY u(t, place)), '') || ')'
	  FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
	 WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dbopt') AND d.classid = 'pg_proc'::regclass
	   AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype
	   AND p.proname !~ '_(reset|trip|pause|resume|drain|create|attach|detach|register|unregister|install|installed|with|drop)(_|$)'
	 ORDER BY 1});
cmp_ok(scalar(@relations), '>=', 18, 'tables and views');
cmp_ok(scalar(@calls), '>=', 30, 'functions');

foreach my $query ((map { "TABLE $_" } @relations), (map { "SELECT * FROM $_" } @calls), 'TABLE pg_stat_activity',
	'SELECT * FROM pg_stat_progress_create_index')
{
	foreach my $role (qw(owner stranger))
	{
		unlike(told($role, $query), qr/topsecret|XS001/, "$role is not told by: $query");
	}
}
foreach my $query ('TABLE dbopt.dbopt_dead_letters', 'TABLE dbopt.dbopt_pending_retries', 'SELECT * FROM dbopt.dbopt_retry_stats()',
	'SELECT * FROM dbopt.dbopt_index_status()', 'SELECT dbopt.dbopt_report()')
{
	like(told($_, $query), qr/topsecret/, "$_ is, by: $query") foreach qw(app member watcher);
}

$lock->query_safe('COMMIT');
$lock->quit;
$caller->quit;
ok($node->poll_query_until('postgres', q{SELECT count(*) = 4 FROM dbopt.dbopt_pending_retries}), 'what waited goes on');

# What PostgreSQL logs of a client's own statements is not dbopt's.
my @entries = grep { /LOG:  dbopt: |DETAIL:  \{"environment"/ || !/^\S+ \S+ \S+ \[\d+\] 144_secrets\.pl / }
  split /^(?=\d{4}-)/m, slurp_file($node->logfile);
cmp_ok(scalar(grep { /SQL failed and is tried again/ } @entries), '>=', 1, 'the log tells of statements that are tried again');
cmp_ok(scalar(grep { /failed and was given up/ } @entries), '>=', 3, 'the log has what dbopt has to say');
is(scalar(grep { /topsecret/ } @entries), 0, '... but not what the events and errors do');

$node->stop;
done_testing();
