# While a transaction is being prepared, snapshots have its id twice: for its
# backend and as a prepared transaction.  With synchronous replication that
# lasts until the standby has answered.  Its events are delivered once.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('prepared_twice');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_prepared_transactions = 5
synchronous_commit = local
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	SELECT dbopt_create_events('marked', true);
	CREATE TABLE effects (source text, tag text);
	CREATE FUNCTION on_log(e log) RETURNS void LANGUAGE sql
		AS $$ INSERT INTO effects VALUES ('log', e.aggregate_type) $$;
	CREATE FUNCTION on_marked(e marked) RETURNS void LANGUAGE sql
		AS $$ INSERT INTO effects VALUES ('marked', e.aggregate_type) $$;
	SELECT dbopt_register_handler('on_log', '*', 'on_log(log)', events => 'log');
	SELECT dbopt_register_handler('on_marked', '*', 'on_marked(marked)', events => 'marked');
});

# One event in each table.
sub insert
{
	my ($tag) = @_;

	return join ' ',
	  map { "INSERT INTO $_ (event_type, aggregate_type, aggregate_id, data) VALUES ('T', '$tag', dbopt_uuid_v7(), '{}');" }
	  qw(log marked);
}

$node->safe_psql('postgres', insert('first'));
is($node->safe_psql('postgres', "SELECT dbopt_drain('180 s')"), 't', 'the cursors are there');

# A standby that never answers.
$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
$node->reload;
my $writer = $node->background_psql('postgres');
$writer->query_safe('SET synchronous_commit = on');
$node->poll_query_until('postgres', "SELECT current_setting('synchronous_standby_names') = 'nobody'")
  or die 'the setting has not come';
$writer->query_safe('BEGIN; ' . insert('prepared'));
$writer->query_until(qr/preparing/, "\\echo preparing\nPREPARE TRANSACTION 'p';\n");
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"),
	'a transaction is being prepared');

# The cursors pass it.
$node->safe_psql('postgres', insert('second'));
is($node->safe_psql('postgres', "SELECT dbopt_drain('180 s')"), 't', 'what came later is delivered');
is($node->safe_psql('postgres', 'SELECT array_agg(DISTINCT cardinality(holes)) FROM dbopt_cursor_version'),
	'{1}', 'and one hole is left behind');

$node->safe_psql('postgres', 'ALTER SYSTEM RESET synchronous_standby_names');
$node->reload;
$writer->query_safe("COMMIT PREPARED 'p'");
$writer->quit;
is($node->safe_psql('postgres', "SELECT dbopt_drain('180 s')"), 't', 'the hole is delivered');
is( $node->safe_psql('postgres',
		'SELECT source, tag, count(*) FROM effects GROUP BY source, tag ORDER BY source, tag'),
	"log|first|1\nlog|prepared|1\nlog|second|1\nmarked|first|1\nmarked|prepared|1\nmarked|second|1",
	'each event once');
$node->stop;
done_testing();
