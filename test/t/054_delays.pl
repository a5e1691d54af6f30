# The delays that failed events really get are those of their policy, or what
# their error asks for; changed policies and rules count at once, in running
# sessions too.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('delays');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_idle_timeout = '1h'");
$node->start;
asking($node);

# What an event's error is like stands in the event.
sql(q{
	CREATE EXTENSION dbopt CASCADE;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, multiplier, jitter, retry_unknown, failure_threshold)
	SELECT jitter, 5, '1000 s', '4000 s', 2, jitter, true, 1000000
	FROM unnest('{none,proportional,equal,full}'::text[]) AS jitter;
	CREATE TABLE events (id int PRIMARY KEY, event_type text NOT NULL, code text DEFAULT 'P0001', message text DEFAULT 'no',
		hint text DEFAULT '', detail text DEFAULT '');
	SELECT dbopt_attach_events('events');
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		RAISE EXCEPTION USING ERRCODE = e.code, MESSAGE = e.message, HINT = e.hint, DETAIL = e.detail;
	END $$;
	SELECT dbopt_register_handler(name, upper(name), 'handle(events)', policy => name)
	FROM dbopt_retry_policy WHERE jitter = name;
	-- Seconds from a failure to the next attempt.
	CREATE VIEW delays AS SELECT h.name, q.event_key::int AS id, q.attempts,
			extract(epoch FROM q.next_retry_at - q.failed_at)::float8 AS delay
		FROM dbopt_retry_queue q JOIN dbopt_handler h USING (handler_id);
});

# ---- the policy's ------------------------------------------------------------

sql(q{INSERT INTO events (id, event_type) SELECT i, type FROM generate_series(0, 399) i,
	LATERAL (SELECT ('{NONE,PROPORTIONAL,EQUAL,FULL}'::text[])[1 + i / 100]) AS t (type)});
foreach my $attempt (1 .. 4)
{
	my $d = (1000, 2000, 4000, 4000)[ $attempt - 1 ];
	my $most = $d * 1.5 > 4000 ? 4000 : $d * 1.5;

	# With full jitter a few may be ahead of the others, and dead already.
	becomes(qq{SELECT (SELECT count(*) FROM delays WHERE attempts >= $attempt) + (SELECT count(*) FROM dbopt_dead_letters)}, '400',
		"attempt $attempt of all fails");
	is(sql("SELECT min(delay), max(delay) FROM delays WHERE name = 'none' AND attempts = $attempt"), "$d|$d", '... without jitter: as computed');
	is( sql(qq{SELECT bool_and(CASE name WHEN 'proportional' THEN delay BETWEEN 0.5 * $d AND $most
				WHEN 'equal' THEN delay BETWEEN $d / 2 AND $d ELSE delay BETWEEN 0.001 AND $d END)
			FROM delays WHERE name <> 'none' AND attempts = $attempt}),
		't',
		'... with jitter: within its bounds');

	# 100 draws leave a fifth of their range free at one end once in 5,000,000,000 times.
	is( sql(qq{SELECT string_agg(name, ' ' ORDER BY name) FROM (SELECT name FROM delays WHERE attempts = $attempt GROUP BY name
			HAVING min(delay) < CASE name WHEN 'proportional' THEN 0.7 * $d WHEN 'equal' THEN 0.6 * $d WHEN 'full' THEN 0.2 * $d END
				AND max(delay) > CASE name WHEN 'proportional' THEN least(1.3 * $d, 3999) WHEN 'equal' THEN 0.9 * $d ELSE 0.8 * $d END) AS s}),
		'equal full proportional',
		'... and all over them');
	sql("UPDATE dbopt_retry_queue SET next_retry_at = now() WHERE attempts = $attempt; SELECT dbopt_resume()");
}
becomes('SELECT count(*) FROM dbopt_dead_letters WHERE attempts = 5', '400', 'the fifth is the last one');
is(sql('SELECT count(*) FROM delays'), '0', 'after which nothing waits');
becomes('SELECT DISTINCT attempts, failures, retries, dead_letters FROM dbopt_retry_stats()', '500|500|400|100', 'as is counted');
sql('SELECT dbopt_discard_dead_letters()');

# ---- on the clock ---------------------------------------------------------------

# When calls were made is what the server's log tells: their effects are undone.
sql(q{
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, multiplier, jitter, retry_unknown, failure_threshold)
	VALUES ('clock', 5, '100 ms', '400 ms', 2, 'none', true, 1000000);
	CREATE FUNCTION tell(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		RAISE LOG 'call for % at %', e.id, extract(epoch FROM clock_timestamp());
		RAISE 'no';
	END $$;
	SELECT dbopt_register_handler('clock', 'CLOCK', 'tell(events)', policy => 'clock', chunk_size => 1)});
my @delays = (0.1, 0.2, 0.4, 0.4);
my @least;

# A machine that stands still makes all calls late: there is another round then.
foreach my $round (1 .. 10)
{
	my $first = 400 + 10 * $round;
	my %calls;

	sql("INSERT INTO events (id, event_type) SELECT i, 'CLOCK' FROM generate_series($first, $first + 9) i");
	becomes(q{SELECT count(*) FROM dbopt_dead_letters WHERE handler = 'clock'}, 10 * $round, 'ten events use up their attempts');
	my $log = slurp_file($node->logfile);
	push @{ $calls{$1} }, $2 while $log =~ /call for (\d+) at ([\d.]+)/g;
	is(join(' ', map { scalar @$_ } values %calls), join(' ', (5) x (10 * $round)), '... which are five calls each');
	foreach my $n (0 .. 3)
	{
		($least[$n]) = sort { $a <=> $b } map { $$_[ $n + 1 ] - $$_[$n] } values %calls;
	}
	last unless grep { $least[$_] >= $delays[$_] + 1 } 0 .. 3;
}
foreach my $n (0 .. 3)
{
	cmp_ok($least[$n], '>=', $delays[$n], "call @{[ $n + 2 ]} is not made before its delay of $delays[$n] s");
	cmp_ok($least[$n], '<', $delays[$n] + 1, '... but soon after it');
}
sql('SELECT dbopt_discard_dead_letters()');

# ---- what the error asks for ---------------------------------------------------

my @asked = (
	[ 'retry_after=90s', '', 90 ],
	[ '', 'retry_after=2min', 120 ],
	[ 'retry_after=1500000ms', 'retry_after=7s', 1500 ],
	[ 'retry_after=0.5h', '', 1800 ],
	[ 'look it up', 'retry_after=7s', 7 ],
	[ 'retry_after=300d', '', 40000 ],
	[ 'retry_after=99999999999999d', '', 40000 ],
	# not the whole text, or not of that form
	map { [ $_, '', 1000 ] } (
		' retry_after=90s', 'retry_after=90s ', 'retry_after=90s.', "retry_after=90s\n", 'retry_after=90', 'retry_after=s', 'retry_after=.s',
		'retry_after=', 'retry_after=-90s', 'retry_after=+90s', 'retry_after=9e1s', 'retry_after=1.2.3s', 'retry_after=90 s',
		'retry_after=90S', 'RETRY_AFTER=90s', 'retry_after=infinity', 'retry_after=90sec', 'retry_after=0x10s',
		'retry_after=9999999999999999999999s', 'Key (retry_after=90s) exists'));
my $id = 1000;
sql(q{UPDATE dbopt_retry_policy SET max_attempts = 1000000 WHERE name = 'none'});
sql(join '', map { $id++; "INSERT INTO events (id, event_type, hint, detail) VALUES ($id, 'NONE', \$\$$$_[0]\$\$, \$\$$$_[1]\$\$);" } @asked);
becomes('SELECT count(*) FROM delays', scalar @asked, 'errors that ask for a delay');
is(sql('SELECT string_agg(delay::text, E\'\n\' ORDER BY id) FROM delays'), join("\n", map { $$_[2] } @asked),
	'... get it, if they say nothing else, and no more than ten times the longest');
sql(q{DELETE FROM dbopt_retry_queue; UPDATE dbopt_retry_policy SET max_attempts = 5 WHERE name = 'none'});

# ---- rules and policies that change -----------------------------------------------

# Sessions are warm by now: each of these is seen by the next event.
my $warm = sql(q{SELECT pid FROM dbopt_pool_sessions() ORDER BY pid LIMIT 1});
my $next = 2000;

sub fails
{
	my ($change, $code, $message, $fate, $what) = @_;

	$next++;
	sql($change);
	sql("INSERT INTO events (id, event_type, code, message) VALUES ($next, 'NONE', '$code', '$message')");
	becomes(qq{SELECT 'retry ' || delay FROM delays WHERE id = $next
		UNION ALL SELECT 'dead ' || attempts FROM dbopt_dead_letters WHERE event_id = '$next'}, $fate, $what);
	return;
}

fails('', 'P0001', 'no', 'retry 1000', 'an error is retried');
fails(q{INSERT INTO dbopt_retryable_error (policy, sqlstate, retryable) VALUES ('none', 'P0001', false)}, 'P0001', 'no', 'dead 1',
	'unless a new rule says otherwise');
fails('', 'P0002', 'no', 'retry 1000', 'which is about no other error');
fails(q{UPDATE dbopt_retryable_error SET retryable = true WHERE policy = 'none'}, 'P0001', 'no', 'retry 1000', 'a rule is changed');
fails(q{UPDATE dbopt_retryable_error SET sqlstate = NULL, pattern = 'no way', retryable = false WHERE policy = 'none'}, 'P0001', 'NO WAY!',
	'dead 1', 'to a pattern');
fails('', 'P0001', 'no', 'retry 1000', 'that others do not have');
fails(q{DELETE FROM dbopt_retryable_error WHERE policy = 'none'}, 'P0001', 'no way', 'retry 1000', 'a rule is deleted');
fails(q{UPDATE dbopt_retry_policy SET base_delay = '500 s' WHERE name = 'none'}, 'P0001', 'no', 'retry 500', 'a policy gets another delay');
fails(q{UPDATE dbopt_retry_policy SET max_attempts = 1 WHERE name = 'none'}, 'P0001', 'no', 'dead 1', 'and other attempts');
fails(q{UPDATE dbopt_retry_policy SET max_attempts = 5, retry_unknown = false WHERE name = 'none'}, 'P0001', 'no', 'dead 1',
	'and does not retry what it does not know');
fails('', '40001', 'no', 'retry 500', 'but what is known');
is(sql("SELECT count(*) FROM dbopt_pool_sessions() WHERE pid = $warm"), '1', 'no session had to be new for it');

# A client's session, too, goes by what others have changed meanwhile.
my $client = $node->background_psql('postgres');

sub client_finds
{
	my ($change, $expected, $what) = @_;

	sql($change);
	is($client->query_safe(q{SELECT dbopt_is_retryable('P0001', 'No Way', 'none'), dbopt_retry_delay(1, 'none')}), $expected, "a client's session: $what");
	return;
}

client_finds('SELECT 1', 'f|00:08:20', 'as it was');
client_finds(q{INSERT INTO dbopt_retryable_error (policy, pattern, retryable) VALUES ('none', 'no way', true)}, 't|00:08:20', 'a rule is new');
client_finds(q{UPDATE dbopt_retryable_error SET pattern = 'no ways' WHERE policy = 'none'}, 'f|00:08:20', 'and changed');
client_finds(q{UPDATE dbopt_retry_policy SET retry_unknown = true, base_delay = '1 s' WHERE name = 'none'}, 't|00:00:01', 'so is the policy');
client_finds(q{INSERT INTO dbopt_retryable_error (sqlstate, retryable) VALUES ('P0001', false)}, 'f|00:00:01', 'a rule for all policies is new');
client_finds(q{DELETE FROM dbopt_retryable_error WHERE NOT shipped}, 't|00:00:01', 'and deleted');
sql('BEGIN; DELETE FROM dbopt_retryable_error WHERE NOT shipped; UPDATE dbopt_retry_policy SET retry_unknown = false; ROLLBACK');
client_finds('SELECT 1', 't|00:00:01', 'what was rolled back does not count');
$client->quit;

# Every shipped rule is applied to an event that fails so.
sql(q{UPDATE dbopt_retry_policy SET retry_unknown = false, failure_threshold = 1000000, base_delay = '1 h', max_delay = '1 h',
		jitter = 'none';
	SELECT dbopt_discard_dead_letters(); DELETE FROM dbopt_retry_queue;
	SELECT dbopt_register_handler('shipped ' || name, 'SHIPPED ' || name, 'handle(events)', policy => name)
	FROM dbopt_retry_policy WHERE shipped;
	INSERT INTO events (id, event_type, code, message)
	SELECT 10000 + row_number() OVER (), 'SHIPPED ' || name, coalesce(rpad(sqlstate, 5, '0'), 'XX000'),
		coalesce(CASE odd WHEN 0 THEN 'a ' || lower(pattern) || '!' WHEN 1 THEN upper(pattern) ELSE initcap(pattern) END, 'no')
	FROM dbopt_retry_policy p JOIN dbopt_retryable_error r ON coalesce(policy, name) = name, generate_series(0, 2) AS odd
	WHERE p.shipped AND r.shipped});
becomes(q{SELECT count(*) = (SELECT count(*) FROM events WHERE event_type ~ '^SHIPPED') FROM (
		SELECT event_id FROM dbopt_pending_retries WHERE event_type ~ '^SHIPPED'
		UNION ALL SELECT event_id FROM dbopt_dead_letters WHERE event_type ~ '^SHIPPED') AS s},
	't', 'an event for each shipped rule, in three spellings, has failed');
is( sql(q{SELECT handler, string_agg(DISTINCT left(error_code, 2), ' ' ORDER BY left(error_code, 2)), count(*)
		FROM dbopt_dead_letters GROUP BY handler}),
	"shipped event|0A 22 23 42|12",
	'all are retried but those of event that are not to be');
cmp_ok(sql('SELECT count(DISTINCT error_message) FROM dbopt_pending_retries'), '>', 50, 'by many messages');

$node->stop;
done_testing();
