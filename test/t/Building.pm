# What tests do with the builds of declared indexes.
package Building;

use strict;
use warnings;

use Asking;
use Exporter 'import';
use PostgreSQL::Test::Cluster;

our @EXPORT = qw(building_server declare start_build release builder indexes);

# A server, which is asked from now on, where the pool builds all indexes but
# those of empty tables, and nothing else has tables vacuumed.  More lines for
# its configuration follow, which count.
sub building_server
{
	my ($name, @lines) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', join "\n", q{shared_preload_libraries = 'dbopt'},
		'dbopt.index_inline_pages = 0', 'max_worker_processes = 16', 'autovacuum = off', @lines);
	$node->start;
	asking($node);
	return $node;
}

# Declares an index, anew where it is declared, and has it built.
sub declare
{
	my ($name, $table, $definition, $database) = @_;

	sql(qq{
		INSERT INTO dbopt_index (name, table_name, definition) VALUES ('$name', '$table', '$definition')
			ON CONFLICT (name) DO UPDATE SET definition = EXCLUDED.definition;
		CALL dbopt_ensure_indexes('$table');
	}, $database);
	return;
}

# The same, but the build waits for the writer returned; the status names its
# session.  It is the table that is locked, or another one.
sub start_build
{
	my ($name, $table, $definition, %other) = @_;
	my $writer = asked($other{database}, on_error_stop => 0);
	my $locked = $other{locked} // $table;
	my $pid = $writer->query_safe("BEGIN; LOCK TABLE $locked IN ROW EXCLUSIVE MODE; SELECT pg_backend_pid()");

	declare($name, $table, $definition, $other{database});
	wait_for(qq{SELECT status = 'building' AND reason ~ '^it waits for process $pid \\('
		FROM dbopt_index_status() WHERE name = '$name'}, "$name: the build says for whom it waits", $other{database});
	return $writer;
}

# Lets go whoever holds a build up.
sub release
{
	my ($session) = @_;

	$session->query_safe('COMMIT');
	$session->quit;
	return;
}

sub builder
{
	my ($database) = @_;

	return sql(q{SELECT pid FROM dbopt_pool_sessions() WHERE job = 'index'}, $database);
}

# A table's indexes, and which of them are invalid.
sub indexes
{
	my ($table) = @_;

	return sql(qq{SELECT string_agg(relname || CASE WHEN indisvalid AND indisready AND indislive THEN '' ELSE ' invalid' END,
		', ' ORDER BY relname) FROM pg_index i JOIN pg_class c ON c.oid = indexrelid WHERE indrelid = '$table'::regclass});
}

1;
