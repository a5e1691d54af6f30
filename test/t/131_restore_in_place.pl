# A dump restored over the database that it was made of, with workers and
# callers about; and what they see while rows are being loaded.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('in_place');
my $dump = PostgreSQL::Test::Utils::tempdir . '/app.dump';

$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	SELECT dbopt_create_events('marked', true);
	CREATE TABLE effects (handler text, event_type text, id text);
	CREATE TABLE failing (event_type text);
	INSERT INTO failing VALUES ('LATER'), ('DEAD');
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('again', 1000000, '1 s', '1 s', 'none', true, 1000000);
	CREATE FUNCTION on_log(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM public.failing f WHERE f.event_type = e.event_type) THEN
			IF e.event_type = 'DEAD' THEN RAISE division_by_zero; END IF;
			RAISE 'later';
		END IF;
		INSERT INTO public.effects VALUES ('on_log', e.event_type, e.id);
	END $$;
	CREATE FUNCTION on_marked(e marked) RETURNS void LANGUAGE sql AS $$
		INSERT INTO public.effects VALUES ('on_marked', e.event_type, e.id) $$;
	SELECT dbopt_register_handler('on_log', '*', 'on_log(log)', events => 'log', policy => 'again'),
		dbopt_register_handler('on_marked', '*', 'on_marked(marked)', events => 'marked')});

sub write_events
{
	my ($type, $n, @tables) = @_;

	$node->safe_psql('app', qq{INSERT INTO $_ (event_type, aggregate_type, aggregate_id, data)
		SELECT '$type', 'a', gen_random_uuid(), '{}' FROM generate_series(1, $n)}) foreach @tables;
}

# Effects by handler and type: how many, and of how many events.
my $effects = 'SELECT handler, event_type, count(*), count(DISTINCT id) FROM effects GROUP BY 1, 2 ORDER BY 1, 2';
my $failures = 'SELECT handler, event_type FROM dbopt_pending_retries UNION ALL
	SELECT handler, event_type FROM dbopt_dead_letters ORDER BY 1, 2';
my $failed = "on_log|DEAD\non_log|LATER\non_log|LATER";

sub becomes
{
	my ($query, $expected, $name) = @_;

	ok($node->poll_query_until('app', $query, $expected), $name);
	return;
}

# Ten of each type, by both handlers.
sub tens
{
	my @types = @_;

	return join "\n", map { my $handler = $_; map { "$handler|$_|10|10" } @types } qw(on_log on_marked);
}

write_events('BEFORE', 10, 'log', 'marked');
write_events('LATER', 2, 'log');
write_events('DEAD', 1, 'log');
becomes($effects, tens('BEFORE'), 'delivered');
becomes($failures, $failed, 'or failed');
$node->safe_psql('app', 'SELECT dbopt_pause()');
write_events('WAITING', 10, 'log', 'marked');
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('app') ], 'dumped');
$node->safe_psql('app', 'SELECT dbopt_resume()');

my @ways = (
	[ '--exit-on-error' ],
	[ '--single-transaction' ],
	[ '--jobs', '2' ]);

foreach my $way (@ways)
{
	my $caller = $node->background_psql('app');

	# Nothing of this is in the dump.
	write_events('SINCE', 10, 'log', 'marked');
	$node->safe_psql('app', 'TRUNCATE failing');
	becomes("SELECT count(*) FROM effects WHERE event_type IN ('SINCE', 'LATER')", '22', "@$way: delivered before");

	is($caller->query_safe('SELECT count(*) > 0 FROM dbopt_health()'), 't', 'with a caller about');
	command_ok([ 'pg_restore', '--clean', '--if-exists', @$way, '-d', $node->connstr('app'), $dump ], 'restored');
	is( $caller->query_safe(q{SELECT detail FROM dbopt_health() WHERE check_name = 'paused'}),
		'the database was restored or copied, and is paused until dbopt_resume()',
		'it is known as restored');
	write_events('AFTER', 10, 'log', 'marked');
	is($node->safe_psql('app', $effects), tens('BEFORE'), 'nothing is delivered');
	is($caller->query_safe("SELECT string_agg(state, ' ') FROM dbopt_handlers"), 'ready ready', 'nor judged');

	$caller->query_safe('SELECT dbopt_resume()');
	becomes($effects, tens('AFTER', 'BEFORE', 'WAITING'), 'when it is resumed, what waits is delivered, once');
	is($node->safe_psql('app', $failures), $failed, 'what had failed still does');
	$caller->quit;
}

# ---- while rows are being loaded ----

# A new scheduler looks when there is nothing; then come the rows of identity and
# tables, before it judges them, and before those of handlers.
$node->safe_psql('postgres', 'CREATE DATABASE copy');
command_ok([ 'pg_restore', '--section=pre-data', '-d', $node->connstr('copy'), $dump ], 'tables restored');
my $early = $node->background_psql('copy');
is($early->query_safe(q{SELECT count(*) FROM dbopt_health() WHERE check_name = 'paused' AND status = 'healthy'}),
	'1', 'a caller sees nothing yet');
my $scheduler = q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'copy' AND backend_type = 'dbopt scheduler'};
$node->poll_query_until('copy', $scheduler, '1') or die 'no scheduler';
my $holder = $node->background_psql('copy');
$holder->query_safe('BEGIN; LOCK dbopt_handler');
$node->safe_psql('copy', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	WHERE datname = 'copy' AND backend_type = 'dbopt scheduler'});
$node->poll_query_until('copy', "$scheduler AND wait_event_type = 'Lock'", '1') or die 'the scheduler does not look';
my $data = PostgreSQL::Test::Utils::tempdir . '/data.sql';
command_ok([ 'pg_restore', '--section=data', '-t', 'dbopt_database', '-t', 'dbopt_source', '-f', $data, $dump ],
	'some rows to be loaded');
$node->safe_psql('copy', slurp_file($data));
$holder->query_safe('ROLLBACK');
$node->poll_query_until('copy', "$scheduler AND wait_event_type = 'Extension'", '1') or die 'the scheduler does not rest';
is($node->safe_psql('copy', q{SELECT string_agg(state, ' '), count(reason) FROM dbopt_source}),
	'ready ready|0', 'tables without handlers are left alone');
is( $early->query_safe(q{SELECT detail FROM dbopt_health() WHERE check_name = 'paused'}),
	'the database was restored or copied, and is paused until dbopt_resume()',
	'a caller from before sees what it is');
command_ok(
	[ 'pg_restore', '--section=data', '-L', rest_of_data(), '-d', $node->connstr('copy'), $dump ],
	'the rest of them');
command_ok([ 'pg_restore', '--section=post-data', '-d', $node->connstr('copy'), $dump ], 'indexes restored');
$early->query_safe('SELECT dbopt_resume()');
ok($node->poll_query_until('copy', $effects, tens('BEFORE', 'WAITING')), 'and resumes it');

# A list of contents without what has been loaded.
sub rest_of_data
{
	my $list = PostgreSQL::Test::Utils::tempdir . '/list';
	my ($contents) = run_command([ 'pg_restore', '-l', $dump ]);

	append_to_file($list, join("\n", grep { !/TABLE DATA \S+ dbopt_(database|source) / } split /\n/, $contents) . "\n");
	return $list;
}

$_->quit foreach $early, $holder;
$node->stop;
done_testing();
