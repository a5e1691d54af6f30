# dbopt.chunk_size and the chunk_size of handlers at their extremes: the limits
# are kept, each event is delivered once, whatever its neighbours do, and a
# session needs no more memory because its chunks are large.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $most = 100_000;    # the setting's maximum
my $node = PostgreSQL::Test::Cluster->new('chunk_sizes');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_worker_processes = 24
shared_buffers = 16MB
dbopt.pool_max = 6
dbopt.pool_idle_timeout = '1h'
});
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

sub set_chunk_size
{
	my ($size) = @_;

	sql("ALTER SYSTEM SET dbopt.chunk_size = $size");
	$node->reload;
	ok($node->poll_query_until('postgres', 'SHOW dbopt.chunk_size', $size), "dbopt.chunk_size is $size");
	return;
}

foreach my $size (0, -1, $most + 1)
{
	my ($status, $out, $error) = $node->psql('postgres', "ALTER SYSTEM SET dbopt.chunk_size = $size");

	like($error, qr/ERROR:  $size is outside the valid range/, "it cannot be $size");
}

# Tables of both kinds, with odd names.  Of the events that fail, "once" goes
# well at the second attempt, "bad" never does.  Each call notes how large its
# chunk is; the one that takes arrays is fast enough for the largest ones.
my %tables = (
	log => ['"Größe"."Die ""Ereignisse"" (1)"', ''],
	marked => ['"Größe".marked', ', processed boolean NOT NULL DEFAULT false']);
my %limits = (most => $most, huge => 2147483647, one => 1, setting => 'NULL');

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE SCHEMA "Größe";
	CREATE TABLE effects (handler text, id bigint);
	CREATE TABLE arrays (handler text, ids bigint[]);
	CREATE TABLE sizes (handler text, events bigint);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('quick', 2, '10 ms', '10 ms', 'none', true, 1000000);
	CREATE FUNCTION fail(handler text, fate text, id bigint) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF fate = 'bad' OR NOT EXISTS (SELECT FROM dbopt_pending_retries p WHERE p.handler = fail.handler AND p.event_id = fail.id::text) THEN
			RAISE '% %', handler, id;
		END IF;
	END $$;
	CREATE FUNCTION note(handler text) RETURNS void LANGUAGE sql
		AS $$ INSERT INTO sizes SELECT handler, max(events) FROM dbopt_chunk JOIN dbopt_cursor USING (cursor_id)
			WHERE event_type = handler HAVING count(*) > 0 $$;
});
foreach my $kind (sort keys %tables)
{
	my ($table, $columns) = @{ $tables{$kind} };

	sql(qq{CREATE TABLE $table (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_type text NOT NULL, fate text$columns);
		SELECT dbopt_attach_events('$table')});
	foreach my $limit (sort keys %limits)
	{
		my $name = "$kind $limit ü";
		my ($argument, $body) = ($table, qq{
			IF e.id % 50 = 0 THEN PERFORM note('$name'); END IF;
			IF e.fate IS NOT NULL THEN PERFORM fail('$name', e.fate, e.id); END IF;
			INSERT INTO effects VALUES ('$name', e.id);});

		($argument, $body) = ("$table\[]", qq{
			PERFORM note('$name');
			PERFORM fail('$name', fate, id) FROM unnest(e) WHERE fate IS NOT NULL;
			INSERT INTO arrays VALUES ('$name', ARRAY(SELECT id FROM unnest(e)));})
		  if $limit eq 'huge';
		sql(qq{CREATE FUNCTION "Größe"."$name"(e $argument) RETURNS void LANGUAGE plpgsql SET search_path = public AS \$\$ BEGIN $body END \$\$;
			SELECT dbopt_register_handler('$name', '$name', '"Größe"."$name"($argument)', '$table', policy => 'quick',
				chunk_size => $limits{$limit}, max_concurrency => 3)});
	}
}

# The statement that adds so many events for a handler, of which a few fail.
sub events
{
	my ($kind, $limit, $count) = @_;

	return qq{INSERT INTO $tables{$kind}[0] (event_type, fate) SELECT '$kind $limit ü',
		CASE n % 1009 WHEN 7 THEN 'once' WHEN 500 THEN 'bad' END FROM generate_series(1, $count) n;};
}

sub largest
{
	my ($handler) = @_;

	return sql("SELECT coalesce(max(events), 0) FROM sizes WHERE handler = '$handler'");
}

# Bad events are dead letters, the others have their effect once.
sub all_once
{
	my ($what) = @_;

	drained($node, $what);
	sql('INSERT INTO effects SELECT handler, unnest(ids) FROM arrays; TRUNCATE arrays');
	foreach my $kind (sort keys %tables)
	{
		my $table = $tables{$kind}[0];

		foreach my $limit (sort keys %limits)
		{
			my $name = "$kind $limit ü";
			is( sql(qq{SELECT count(*) FILTER (WHERE x.id IS NULL), count(*) FILTER (WHERE x.n > 1), count(*) FILTER (WHERE e.id IS NULL), count(*) > 0
					FROM (SELECT id FROM $table WHERE event_type = '$name' AND fate IS DISTINCT FROM 'bad') AS e
					FULL JOIN (SELECT id, count(*) AS n FROM effects WHERE handler = '$name' GROUP BY id) AS x USING (id)}),
				'0|0|0|t',
				"$what: $name has had each event once");
		}
		is( sql(qq{SELECT count(*) FROM $table e FULL JOIN (SELECT * FROM dbopt_dead_letters WHERE handler ~ '^$kind ') AS d ON e.id::text = event_id
				WHERE coalesce(fate = 'bad', false) <> coalesce(attempts = 2, false)}),
			'0',
			'... and those that always fail are dead letters');
	}
	return;
}

# Adds events in many transactions, one of which the others overtake.
sub load
{
	my ($many, $few) = @_;
	my $long = $node->background_psql('postgres');

	$long->query_safe('BEGIN');
	foreach my $kind (sort keys %tables)
	{
		$long->query_safe(events($kind, $_, $_ eq 'one' ? $few : $many)) foreach sort keys %limits;
	}
	foreach my $i (1 .. 10)
	{
		foreach my $kind (sort keys %tables)
		{
			sql(join '', map { events($kind, $_, $few / 10) } sort keys %limits);
		}
	}
	$long->query_safe('COMMIT');
	$long->quit;
	return;
}

# ---- one event at a time --------------------------------------------------

set_chunk_size(1);
load(600, 600);
all_once('setting 1');
foreach my $kind (sort keys %tables)
{
	is(largest("$kind $_ ü"), 1, "setting 1: $kind $_: no chunk was larger") foreach sort keys %limits;
}

# ---- as many as may be ----------------------------------------------------

set_chunk_size($most);
sql('TRUNCATE sizes');
load(30_000, 600);
all_once("setting $most");
foreach my $kind (sort keys %tables)
{
	is(largest("$kind one ü"), 1, "setting $most: $kind: no chunk of a handler with chunk_size 1 was larger");
}

# One that was held up is taken for a slow one, for some chunks.
foreach my $attempt (1 .. 10)
{
	last if largest('log huge ü') > 5000;
	note("attempt $attempt: " . largest('log huge ü'));
	sql(events('log', 'huge', 30_000));
	all_once('again');
}
cmp_ok(largest('log huge ü'), '>', 5000, "setting $most: chunks were larger than by default");
is(sql("SELECT count(*) FROM sizes WHERE events > $most"), '0', '... and none larger than that');

# ---- memory ---------------------------------------------------------------

# The most memory, in MB, that any of the sessions has ever had; undefined where
# the system does not tell.
sub peak
{
	my @sizes;

	foreach my $pid (split /\n/, sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt session'}))
	{
		push @sizes, $1 / 1024 if (eval { slurp_file("/proc/$pid/status") } // '') =~ /VmHWM:\s+(\d+)/;
	}
	return (sort { $b <=> $a } @sizes)[0];
}

# Handlers so fast that they get large chunks, then large events: a chunk of them
# has many times as many bytes as a session may use.
sql(q{
	CREATE TABLE large (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_type text NOT NULL, payload text);
	ALTER TABLE large ALTER COLUMN payload SET STORAGE EXTERNAL;
	SELECT dbopt_attach_events('large');
	CREATE FUNCTION single(e large) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF e.id % 100 = 0 THEN PERFORM note('single'); END IF; END $$;
	CREATE FUNCTION batch(e large[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM note('batch'); END $$;
	SELECT dbopt_register_handler('single', 'single', 'single(large)', 'large', max_concurrency => 1);
	SELECT dbopt_register_handler('batch', 'batch', 'batch(large[])', 'large', max_concurrency => 1)});
foreach my $handler (qw(single batch))
{
	sql("INSERT INTO large (event_type) SELECT '$handler' FROM generate_series(1, 30000)");
	drained($node, "$handler: small events");
	my $before = peak();

	sql("TRUNCATE sizes; INSERT INTO large (event_type, payload) SELECT '$handler', repeat('x', 60000) FROM generate_series(1, 3000)");
	drained($node, "$handler: large events");
	is(sql("SELECT attempts, successes FROM dbopt_retry_stats() WHERE handler = '$handler'"), '33000|33000', '... each of which had one call');
	cmp_ok(largest($handler) * 60_000 / 1024 / 1024, '>', 60, '... of which a chunk has so many MB');
	SKIP:
	{
		skip 'the system does not tell the size of processes', 1 unless defined $before;
		note("before: $before MB, afterwards: " . peak() . ' MB');
		cmp_ok(peak() - $before, '<', 30, '... for which no session has needed so many MB more');
	}
}

is(sql('SELECT count(*) FROM dbopt_chunk'), '0', 'no chunk is left');
no_job_failed($node);
$node->stop;
done_testing();
