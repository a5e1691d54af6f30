# While a transaction holds the horizon back, each hand-out leaves dead rows
# that nothing removes.  Nobody reads them again and again, and what is alive
# among them is found.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $events = 3000;
my $node = PostgreSQL::Test::Cluster->new('dead_rows');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_worker_processes = 16
max_prepared_transactions = 1
autovacuum = off
fsync = off
dbopt.pool_max = 3
dbopt.alert_delay = '40 ms'
});
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

sub insert
{
	my ($type, $count) = @_;

	sql("INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
		SELECT '$type', 'a', gen_random_uuid(), '{}' FROM generate_series(1, $count)");
	return;
}

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE TABLE seen (id uuid, event_type text);
	CREATE FUNCTION work(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO seen VALUES (e.id, e.event_type);
		IF e.event_type = 'SLOW' THEN
			PERFORM pg_advisory_xact_lock_shared(1);
		END IF;
	END $$;
	SELECT dbopt_register_handler('work', '*', 'work(events)', chunk_size => 1, max_concurrency => 2)});

# ---- a live chunk with thousands of dead ones behind it ----------------------

# One session is held up in the first of the events of a type, another one
# delivers the others.
sql(q{BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'pin'});
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
insert('SLOW', 1);
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory'}), 'a session is held up');
insert('QUICK', $events);
ok($node->poll_query_until('postgres', "SELECT count(*) = $events FROM seen"), 'the others are delivered');
cmp_ok(sql(q{SELECT pg_relation_size('dbopt_chunk') / 8192}), '>', 10, '... and have left dead rows');
is(sql('SELECT count(*) FROM dbopt_chunk'), '1', '... beside a live one');

# Its session ends: the scheduler, which has looked meanwhile, finds the chunk.
is( sql(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE wait_event = 'advisory'}),
	't', 'the session that was held up is terminated');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'delivered');
is(sql('SELECT count(*), count(DISTINCT id) FROM seen'), ($events + 1) . '|' . ($events + 1), '... each event once');

# ---- how much is read --------------------------------------------------------

# Scans of whole tables, and index entries that were read, dead ones included.
my $scans = q{SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE relname IN ('dbopt_chunk', 'dbopt_cursor_version')};
my $entries = q{SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname IN ('dbopt_chunk', 'dbopt_cursor_version')};
my $looks = q{SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE relname IN ('dbopt_chunk', 'dbopt_cursor_version')};

sub looked
{
	my ($before) = @_;

	ok($node->poll_query_until('postgres', "SELECT ($looks) > $before"), 'the scheduler has looked');
	return;
}

# What sessions have read for their hand-outs is counted by the time they end.
sql(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'dbopt session'});

# So is what clients have read, whose backends may end a moment after them.
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend'}), 'clients have gone');

# The first look of all is behind it: it knows where the dead rows end.
my $before = sql($looks);
sql(q{SELECT dbopt_pause_handler('work'), dbopt_resume_handler('work')});
looked($before);

my ($scans_before, $entries_before, $looks_before) = (sql($scans), sql($entries), sql($looks));
foreach my $time (1 .. 3)
{
	sql(q{SELECT dbopt_pause_handler('work')});
	looked($looks_before);
	$looks_before = sql($looks);
	sql(q{SELECT dbopt_resume_handler('work')});
	looked($looks_before);
	$looks_before = sql($looks);
}
is(sql($scans), $scans_before, 'it has not read the tables as a whole');

# It tells later what it has read, and may have told of its first look only now.
cmp_ok(sql($entries) - $entries_before, '<', 3 * $events, '... nor their dead rows again and again');

# One backend that looks several times passes them once.
my $backend = $node->background_psql('postgres');
my $look = q{SELECT string_agg(check_name, ' ') FROM dbopt_health() WHERE check_name IN ('positions', 'clock', 'backlog') AND status = 'healthy'};
is($backend->query_safe($look), 'backlog positions clock', 'all is well');
$entries_before = $backend->query_safe("SELECT pg_stat_force_next_flush(); $entries") =~ s/\s//gr;
is($backend->query_safe($look), 'backlog positions clock', '... and still is') foreach 1 .. 3;
cmp_ok(($backend->query_safe("SELECT pg_stat_force_next_flush(); $entries") =~ s/\s//gr) - $entries_before,
	'<', $events, 'a backend passes them once');
is(sql($scans), $scans_before, '... and does not read the tables as a whole');
$backend->quit;

# A session that asks, for each event of an ordered handler, whether the one
# before it has been delivered, passes each of them once, too.
my $ordered = 1000;
$entries_before = sql($entries);
sql(qq{
	CREATE FUNCTION in_order(e events) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO seen VALUES (e.id, e.event_type) \$\$;
	SELECT dbopt_register_handler('in_order', 'ORDERED', 'in_order(events)', chunk_size => 1, ordered => true);
	INSERT INTO events (event_type, aggregate_type, aggregate_id, aggregate_version, data)
		SELECT 'ORDERED', 'a', '00000000-0000-0000-0000-000000000001', n, '{}' FROM generate_series(1, $ordered) n});
ok($node->poll_query_until('postgres', "SELECT count(*) = 2 * $ordered FROM seen WHERE event_type = 'ORDERED'"),
	'delivered to an ordered handler, and to the other one');
sql(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'dbopt session'});
cmp_ok(sql($entries) - $entries_before, '<', $ordered * 100, '... whose sessions do not read dead rows again and again');

# ---- what they hide ----------------------------------------------------------

sql(q{SELECT dbopt_pause_handler('work')});
sql(q{UPDATE dbopt_cursor_version SET last_position = last_position + 1000000000});
is(sql(q{SELECT status FROM dbopt_health() WHERE check_name = 'positions'}), 'critical', 'a cursor that is too far');
sql(q{UPDATE dbopt_cursor_version SET last_position = last_position - 1000000000});
sql(q{INSERT INTO dbopt_chunk (cursor_id, seq, from_position, to_position, exclude, events, handed_out_at)
	SELECT cursor_id, seq, last_position, last_position + 1000000000, '{}', 1, now() + interval '1 min'
	FROM dbopt_cursor_version ORDER BY seq DESC LIMIT 1});
is( sql(q{SELECT string_agg(check_name || ' ' || status, ', ') FROM dbopt_health() WHERE check_name IN ('positions', 'clock')}),
	'positions critical, clock degraded', 'a chunk that is too far, handed out in the future');

$node->stop;
done_testing();
