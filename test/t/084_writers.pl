# Writers do not wait for a build: not while it waits for others, nor while it
# reads and sorts, nor when it takes another index's place or drops one.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('writers');
$node->init;
$node->append_conf(
	'postgresql.conf', qq{
shared_preload_libraries = 'dbopt'
dbopt.index_inline_pages = 0
max_worker_processes = 16
autovacuum = off
});
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE things (id int, n int, name text);
	INSERT INTO things SELECT i, 0, 'thing ' || i FROM generate_series(1, 30000) i;
	CREATE INDEX things_name ON things (name);
	INSERT INTO dbopt_index VALUES ('things_id', 'things', '(id)'), ('things_name', 'things', '(lower(name))'),
		('things_trgm', 'things', 'USING gin (name public.gin_trgm_ops)');
});

# Each client has rows of its own, so that none waits for another; who waits for
# a lock on the table fails.
my $script = PostgreSQL::Test::Utils::tempdir . '/write.sql';
append_to_file($script, q{
\set id 1 + :client_id + 4 * random(0, 1000)
INSERT INTO things VALUES (100000 + :client_id, 1, 'new');
UPDATE things SET n = n + 1 WHERE ctid = format('(%s,%s)', :client_id, 1 + :id % 50)::tid;
DELETE FROM things WHERE ctid = format('(%s,%s)', 20 + :client_id, 1 + :id % 50)::tid;
});
my @pgbench = ('pgbench', '-n', '-c', '3', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres');
local $ENV{PGOPTIONS} = '-c lock_timeout=1s';

sub writers_go_on
{
	my ($what) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ @pgbench, '-t', '50' ], '>', \$out, '2>', \$err);

	ok($ok && $out =~ m{processed: 150/150}, "writers go on $what") or diag("$out$err");
	return;
}

sub waiting
{
	my ($phase, $what) = @_;
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_progress_create_index WHERE phase = '$phase'"),
		$what);
	return;
}

# Through all of a build, in each of its waits, of which there is one after the
# other; the statements between them run beside it.
my $writer = $node->background_psql('postgres');
$writer->query_safe('BEGIN; LOCK TABLE things IN ROW EXCLUSIVE MODE');
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
my ($out, $err) = ('', '');
my $beside = IPC::Run::start([ @pgbench, '-T', '3' ], '>', \$out, '2>', \$err);
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('things')});
waiting('waiting for writers before build', 'a build waits for a writer');
writers_go_on('while it waits for one of them');
$writer->query_safe('COMMIT');
waiting('waiting for old snapshots', 'then for a reader');
writers_go_on('while it waits for a reader');
$reader->query_safe('COMMIT');
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('things', true)});
is( $node->safe_psql('postgres', q{SELECT string_agg(status, ' ') FROM dbopt_index_status() WHERE table_name = 'things'}),
	'valid valid valid', 'a plain index, a replaced one, and an inverted one are built');
$beside->finish;
like($out, qr/number of failed transactions: 0 /, 'writers beside it have not waited') or diag($err);

# DROP INDEX CONCURRENTLY likewise.
$reader->query_safe('BEGIN; SELECT count(*) FROM things');
my $dropper = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c',
		'SET lock_timeout = 0', '-c', 'CALL dbopt_drop_indexes()' ]);
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^CALL dbopt_drop' AND wait_event_type = 'Lock'}),
	'indexes are about to be dropped');
writers_go_on('while that waits for a reader');
$reader->query_safe('COMMIT');
ok($dropper->finish, 'they are dropped');

# Otherwise these tests would tell it: by hand, without CONCURRENTLY.
$reader->query_safe('BEGIN; CREATE INDEX by_hand ON things (id)');
($out, $err) = ('', '');
IPC::Run::run([ @pgbench, '-t', '1' ], '>', \$out, '2>', \$err);
like($err, qr/canceling statement due to lock timeout/, 'a plain CREATE INDEX keeps writers waiting');
$reader->query_safe('ROLLBACK');
$_->quit foreach ($writer, $reader);
$node->stop;
done_testing();
