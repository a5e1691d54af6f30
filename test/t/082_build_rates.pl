# The pool learns from its builds how long builds take on this server: not from
# what they wait for, and not where there is nowhere to write it down.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('rates');
$node->init;
$node->append_conf(
	'postgresql.conf', qq{
shared_preload_libraries = 'dbopt'
dbopt.index_inline_pages = 0
max_worker_processes = 16
autovacuum = off
});
$node->start;

sub sql
{
	my ($statement) = @_;
	return $node->safe_psql('postgres', $statement);
}

# A database of version 1.0 has no place for it; its indexes are built.
sql(q{
	CREATE EXTENSION dbopt VERSION '1.0' CASCADE;
	CREATE TABLE things (id int, name text);
	INSERT INTO things SELECT i, 'thing ' || i FROM generate_series(1, 2000) i;
	ANALYZE things;
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('things_id', 'things', '(id)');
	CALL dbopt_ensure_indexes('things', true);
});
is(sql(q{SELECT status FROM dbopt_index_status() WHERE name = 'things_id'}), 'valid', '1.0: an index is built');
sql(q{ALTER EXTENSION dbopt UPDATE});
is(sql('SELECT count(*) FROM dbopt_build_rate'), 0, 'after the update nothing has been learned yet');

# From then on each build counts, for its method and its table's size.
sql(q{
	INSERT INTO dbopt_index (name, table_name, definition) VALUES
		('things_name', 'things', '(name)'),
		('things_lower', 'things', '(lower(name))'),
		('things_trgm', 'things', 'USING gin (name public.gin_trgm_ops)');
	CALL dbopt_ensure_indexes('things', true);
});
is(sql('SELECT method, magnitude, builds, factor > 0 FROM dbopt_build_rate ORDER BY method'),
	"btree|4|2|t\ngin|4|1|t", 'builds are counted');

sub estimate
{
	my ($name) = @_;
	return sql("SELECT extract(epoch FROM estimated_time) FROM dbopt_estimate_indexes('things') WHERE name = '$name'");
}

# The estimate goes by it, by the nearest size there is.
sql(q{UPDATE dbopt_build_rate SET factor = 1});
my $reckoned = estimate('things_name');
sql(q{UPDATE dbopt_build_rate SET factor = 1000});
cmp_ok(estimate('things_name'), '>', 100 * $reckoned, 'what was learned counts');
sql(q{INSERT INTO dbopt_build_rate VALUES ('btree', 6, 1, 0.001), ('btree', 2, 1, 0.001), ('hash', 4, 1, 0.001)});
cmp_ok(estimate('things_name'), '>', 100 * $reckoned, 'and not that of other sizes and methods');
sql(q{DELETE FROM dbopt_build_rate WHERE method = 'btree' AND magnitude = 4});
cmp_ok(estimate('things_name'), '<', $reckoned, 'unless there is nothing else');
sql(q{DELETE FROM dbopt_build_rate});

# The time that a build waits for another transaction does not count.
my $blocker = $node->background_psql('postgres');
$blocker->query_safe('BEGIN; LOCK TABLE things IN ROW EXCLUSIVE MODE');
sql(q{INSERT INTO dbopt_index (name, table_name, definition) VALUES ('things_both', 'things', '(id, name)');
	CALL dbopt_ensure_indexes('things')});
ok( $node->poll_query_until(
		'postgres', q{SELECT bool_or(wait_event_type = 'Lock' AND clock_timestamp() - xact_start > '3 s')
			FROM pg_stat_activity WHERE backend_type = 'dbopt session'}),
	'a build waits');
$blocker->query_safe('COMMIT');
$blocker->quit;
sql(q{CALL dbopt_ensure_indexes('things', true)});
my $waited = sql('SELECT factor FROM dbopt_build_rate');
cmp_ok($waited, '<', 80, 'and the wait does not count') or diag("factor $waited");

# A build that fails teaches nothing, and leaves nothing running.
sql(q{DELETE FROM dbopt_build_rate; INSERT INTO things SELECT 1, 'twice' FROM generate_series(1, 2);
	INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES ('things_unique', 'things', '(name)', true)});
$node->psql('postgres', q{CALL dbopt_ensure_indexes('things', true)});
is(sql(q{SELECT status FROM dbopt_index_status() WHERE name = 'things_unique'}), 'failed', 'a build fails');
is(sql('SELECT count(*) FROM dbopt_build_rate'), 0, 'and is not counted');

# The rates are this server's: they are not dumped.
my ($dump) = run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
unlike($dump, qr/COPY public\.dbopt_build_rate/, 'rates are not dumped');
$node->stop;
done_testing();
