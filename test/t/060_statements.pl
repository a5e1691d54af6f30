# Advice that takes pg_stat_statements: the order of columns, the column that
# sequential scans ask for; and who may see which statements.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('statements');
$node->init;
$node->append_conf('postgresql.conf',
	"shared_preload_libraries = 'dbopt'\nautovacuum = off");
$node->start;

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub advice
{
	my ($finding) = @_;

	return sql("SELECT index_name, table_name, statement FROM dbopt_index_advice()"
		  . " WHERE finding = '$finding' ORDER BY index_name, statement");
}

sub error_of
{
	my ($statement) = @_;
	my ($status, undef, $error) =
	  $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");

	isnt($status, 0, "fails: $statement");
	return $error;
}

sql('CREATE EXTENSION dbopt CASCADE');

# Not loaded, then loaded and not created: the hint says what is missing.
sql('CREATE EXTENSION pg_stat_statements');
my $error = error_of('SELECT * FROM dbopt_statements(false)');
like($error, qr/ERROR:  55000: .*not loaded/, 'not loaded');
like($error, qr/HINT: .*shared_preload_libraries, restart the server\./,
	'and how to load it');
is(sql('SELECT count(*) FROM dbopt_statements(true)'), '0', 'no rows');
is(sql('SELECT count(*) FROM dbopt_index_advice()'), '0', 'advice does without');
sql('DROP EXTENSION pg_stat_statements');
like(
	error_of('SELECT * FROM dbopt_statements(false)'),
	qr/HINT: .*restart the server, and run CREATE EXTENSION/,
	'neither loaded nor created');

$node->append_conf('postgresql.conf',
	"shared_preload_libraries = 'dbopt, pg_stat_statements'");
$node->restart;
like(
	error_of('SELECT * FROM dbopt_statements(false)'),
	qr/ERROR:  55000: .*not installed.*HINT:  Run CREATE EXTENSION/s,
	'loaded and not created');
is(sql('SELECT count(*) FROM dbopt_statements(true)'), '0', 'no rows again');

# In a schema of its own, and not in the search path.
sql(q{CREATE SCHEMA "Odd ""One"; CREATE EXTENSION pg_stat_statements SCHEMA "Odd ""One"});
cmp_ok(sql('SELECT count(*) FROM dbopt_statements(false)'),
	'>', 0, 'found in another schema');

# What statements use.
sub uses
{
	my ($statement) = @_;

	return sql('SELECT string_agg(concat_ws(\'.\', schema_name, table_name, column_name) || coalesce(\' \' || usage, \'\'),'
		  . " ', ' ORDER BY table_name, column_name NULLS FIRST, usage) FROM dbopt_statement_columns(\$q\$$statement\$q\$)");
}

is(uses('SELECT a FROM t'), 't', 'a table alone');
is(uses('SELECT * FROM s.t x WHERE x.a = $1 AND (b > $2 OR c IS NULL) ORDER BY d, e + 1'),
	's.t, s.t.a equal, s.t.b range, s.t.c equal, s.t.d order',
	'equal, range, order, by alias');
is(uses('SELECT * FROM t JOIN u ON t.a = u.b WHERE u.c = ANY ($1) AND u.d IN ($1, $2) AND u.e BETWEEN $3 AND $4'),
	't, t.a equal, u, u.b equal, u.c equal, u.d equal, u.e range',
	'joins, lists and ranges');
is(uses('SELECT a = 1, f(b), c || d FROM t WHERE f(e) = 1 AND g + 1 = 2 AND h <> 3'),
	't', 'neither results nor expressions');
is(uses('UPDATE t SET a = 1 WHERE b::int = $1'), 't, t.b equal', 'UPDATE');
is(uses('DELETE FROM t USING u WHERE t.a = u.a'), 't, t.a equal, u, u.a equal', 'DELETE');
is(uses('INSERT INTO t SELECT * FROM u WHERE a = 1'), 't, t.a equal, u, u.a equal', 'INSERT');
is(uses('WITH w AS (SELECT * FROM t WHERE a = 1) SELECT * FROM w WHERE w.b = 2'),
	't, t.a equal', 'WITH is no table');
is(uses('SELECT * FROM t WHERE a > now() - interval $1 AND "x$1" = $2'),
	't, t.a range, t.x$1 equal', 'a normalised interval');
is(uses('SELECT * FROM t WHERE EXISTS (SELECT FROM u WHERE u.a = t.b)'),
	't, t.b equal, u, u.a equal', 'subqueries');
is(uses('CREATE TABLE x AS SELECT * FROM t'), '', 'other statements');
is(uses('no statement at all'), '', 'not a statement');

# Composite indexes, and what the statements ask for.
sql(q{
	CREATE SCHEMA shop;
	CREATE TABLE shop.orders (id int PRIMARY KEY, status text, customer int, product int, day date, note text);
	INSERT INTO shop.orders SELECT i, 's' || i % 3, i % 5000, i % 100, '2024-01-01'::date + i % 1000, 'note'
		FROM generate_series(1, 20000) i;
	CREATE INDEX wrong ON shop.orders (status, customer DESC) INCLUDE (note);
	CREATE INDEX used ON shop.orders (product, day);
	CREATE INDEX selective ON shop.orders (id, status);
	CREATE INDEX partial ON shop.orders (status, customer) WHERE note IS NULL;
	CREATE INDEX expression ON shop.orders (lower(status), customer);
	CREATE INDEX gin ON shop.orders USING gin (status gin_trgm_ops, note gin_trgm_ops);
	ANALYZE shop.orders;
});
is(advice('column_order'), '', 'no statements, no advice');
for (1 .. 3)
{
	sql("SET search_path = shop; SELECT count(*) FROM orders WHERE customer = $_");
}
sql("SELECT count(*) FROM shop.orders WHERE product = 5 AND day = '2024-01-06'");
is( advice('column_order'),
	'wrong|shop.orders|CREATE INDEX CONCURRENTLY ON shop.orders (customer DESC, status) INCLUDE (note)',
	'an order that fits neither statements nor selectivity');
like(
	sql(q{SELECT detail FROM dbopt_index_advice() WHERE finding = 'column_order'}),
	qr/called 3 times ask for customer and none for status, which comes first, though \d+ rows share a value of it, and 4 one of customer/,
	'and why');
sql("CREATE INDEX helps ON shop.orders (customer)");
is(advice('column_order'), '', 'unless another index begins with it');
sql("DROP INDEX shop.helps");
sql("SELECT count(*) FROM shop.orders WHERE status = 's1'");
is(advice('column_order'), '', 'unless a statement asks for the first column');
sql(q{SELECT "Odd ""One".pg_stat_statements_reset()});
sql("SELECT count(*) FROM shop.orders WHERE status = 's1'");
is(advice('column_order'), '', 'statements that ask for the first column alone');

# The column that large sequential scans ask for.
sql(q{
	DROP TABLE shop.orders;
	CREATE TABLE shop.log (id int PRIMARY KEY, kind int, "Visitor No" int, j json);
	INSERT INTO shop.log SELECT i, i % 2, i % 6000, '{}' FROM generate_series(1, 30000) i;
	ANALYZE shop.log;
});
sql(q{SELECT count(*) FROM shop.log WHERE kind = 1 AND j IS NOT NULL}) for (1 .. 10);
is( advice('sequential_scans'),
	'|shop.log|SELECT * FROM public.dbopt_slow_queries()',
	'a column with two values is no remedy, nor one without an order');
sql(qq{SELECT count(*) FROM shop.log WHERE "Visitor No" = $_}) for (1 .. 6);
is( advice('sequential_scans'),
	'|shop.log|CREATE INDEX CONCURRENTLY ON shop.log ("Visitor No")',
	'the column that statements ask for');
sql(sql(q{SELECT statement FROM dbopt_index_advice() WHERE finding = 'sequential_scans'}));
is( advice('sequential_scans'),
	'|shop.log|SELECT * FROM public.dbopt_slow_queries()',
	'and no longer when it has its index');

# The statements that take most time, and what is declared for their tables.
like(
	error_of('SELECT * FROM dbopt_slow_queries(-1)'),
	qr/ERROR:  2201W/, 'a negative number of statements');
is(sql('SELECT count(*) FROM dbopt_slow_queries(2)'), '2', 'as many as wanted');
# Others add to them meanwhile.
is( sql(q{
	CREATE TEMP TABLE before AS SELECT queryid, role FROM dbopt_statements(false);
	CREATE TEMP TABLE shown AS SELECT queryid, role FROM dbopt_slow_queries(NULL);
	CREATE TEMP TABLE after AS SELECT queryid, role FROM dbopt_statements(false);
	SELECT (SELECT count(*) FROM (TABLE before EXCEPT ALL TABLE shown) x), (SELECT count(*) FROM (TABLE shown EXCEPT ALL TABLE after) x)}),
	'0|0', 'or all');
is(sql('SELECT bool_and(total_ms <= before) FROM (SELECT total_ms, lag(total_ms) OVER () AS before FROM dbopt_slow_queries()) s'),
	't', 'the slowest first');
sql(q{
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('idx_log_kind', 'shop.log', '(kind)');
	CREATE TABLE shop.nothing_declared (a int);
	SELECT * FROM shop.nothing_declared WHERE a = 1;
});
is(sql(q{SELECT DISTINCT tables, indexes FROM dbopt_slow_queries(NULL) WHERE query LIKE '%shop.log WHERE "Visitor No"%'}),
	'{shop.log}|{idx_log_kind}', 'with the declared index of its table');
is(sql(q{SELECT tables, indexes FROM dbopt_slow_queries(NULL) WHERE query LIKE '%nothing_declared WHERE%'}),
	'{shop.nothing_declared}|{}', 'or none');

# The table that is meant, and no other of that name; which need not be quoted
# where it is declared.  From PostgreSQL 18 on, statements that differ in the
# schema alone are one: here they ask for different columns.
sql(q{
	CREATE TABLE "2024_log" (a int);
	CREATE TABLE shop."2024_log" (a int, b int);
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('idx_2024', '2024_log', '(a)');
	SELECT * FROM public."2024_log" WHERE a = 1;
	SELECT * FROM shop."2024_log" WHERE b = 1;
});
is(sql(q{SELECT tables, indexes FROM dbopt_slow_queries(NULL) WHERE query LIKE '%2024_log" WHERE%' ORDER BY 1}),
	'{"\"2024_log\""}|{idx_2024}' . "\n" . '{"shop.\"2024_log\""}|{}', 'a declared index is that of one table');

# Statements are shown as pg_stat_statements shows them.
sql(q{
	CREATE ROLE monitor; GRANT pg_monitor TO monitor;
	CREATE ROLE nobody;
	GRANT EXECUTE ON FUNCTION dbopt_statements TO nobody;
	GRANT USAGE ON SCHEMA "Odd ""One" TO monitor, nobody;
});
my $others = 'SELECT count(*) FROM dbopt_statements(false)'
  . q{ WHERE role = 'postgres' AND queryid IS NOT NULL AND query LIKE '%Visitor%'};
cmp_ok(sql("SET ROLE monitor; $others"), '>', 0, 'pg_monitor sees the text');
is(sql("SET ROLE nobody; $others"), '0', 'others do not');
cmp_ok(
	sql(q{SET ROLE nobody; SELECT count(*) FROM dbopt_statements(false) WHERE query = '<insufficient privilege>'}),
	'>', 0, 'but their figures');

$node->stop;
done_testing();
