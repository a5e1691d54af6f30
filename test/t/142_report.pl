# dbopt_report(): one page that is well-formed, lets nothing in, tells what
# happened, and shows errors only to whom they concern.
use strict;
use warnings;

use Digest::SHA qw(sha256_base64);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('report');
$node->init(extra => [ '-E', 'UTF8' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;

sub report
{
	my ($database, $before) = @_;

	return $node->safe_psql($database // 'postgres',
		($before // '') . 'SELECT dbopt_report()');
}

# The first thing that XML would not allow; an empty string when there is none.
# What is written here is HTML to a browser and XML to a parser alike.
sub malformed
{
	my ($page) = @_;
	my $attribute = qr/\s+[a-zA-Z][a-zA-Z:-]*="(?:[^<&"]|&(?:amp|lt|gt|quot|#\d+|#x[0-9A-F]+);)*"/;
	my @open;

	return 'not ASCII' if $page =~ /[^\n\x20-\x7E]/;
	$page =~ s/\A<!DOCTYPE html>\s*// or return 'no DOCTYPE';
	while ($page =~ /\G(?:([^<&]+|&(?:amp|lt|gt|quot|#\d+|#x[0-9A-F]+);)|<(\/?)([a-zA-Z0-9]+)($attribute*)\s*(\/?)>)/gc)
	{
		my ($text, $end, $name, $attributes, $alone) = ($1, $2, $3, $4, $5);

		if (defined $text)
		{
			return 'text outside' if !@open && $text =~ /\S/;
			next;
		}
		my %seen;
		return "twice the same attribute in <$name>"
		  if grep { $seen{$_}++ } $attributes =~ /([a-zA-Z:-]+)="/g;
		next if $alone;
		push(@open, $name), next if !$end;
		my $opened = pop @open // 'nothing';
		return "</$name> closes $opened" if $opened ne $name;
	}
	my $rest = substr($page, pos($page) // 0, 60);
	return $rest ne '' ? "cannot read: $rest" : @open ? "open: @open" : '';
}

# Text as a browser shows it, but for characters that are not ASCII.
sub shown
{
	my ($html) = @_;

	$html =~ s/<[^>]*>//g;
	$html =~ s/&lt;/</g;
	$html =~ s/&gt;/>/g;
	$html =~ s/&quot;/"/g;
	$html =~ s/&#(\d+);/chr $1/eg;
	$html =~ s/&amp;/&/g;
	return $html;
}

# The page has this, or has it not; it is too long to be printed.
sub has
{
	my ($html, $pattern, $name) = @_;

	return ok($html =~ $pattern, $name);
}

sub lacks
{
	my ($html, $pattern, $name) = @_;

	return ok($html !~ $pattern, $name);
}

# The rows of the table of minutes, each a list of its cells.
sub minutes
{
	my ($page) = @_;
	my ($table) = $page =~ m{<table id="minutes">.*?<tbody>(.*?)</tbody>}s;

	return
	  map { [ map { shown($_) } m{<td[^>]*>(.*?)</td>}gs ] }
	  $table =~ m{<tr>(.*?)</tr>}gs;
}

sub column_sum
{
	my ($page, $column) = @_;
	my $sum = 0;

	foreach my $row (minutes($page))
	{
		(my $figure = $row->[$column]) =~ s/,//g;
		$sum += $figure;
	}
	return $sum;
}

# A handler's row.
sub row_of
{
	my ($page, $handler) = @_;
	my ($section) = $page =~ m{<section id="handlers">(.*?)</section>}s;
	my ($row) = grep { m{<span class="name"><bdi>\Q$handler\E</bdi>} }
	  $section =~ m{<tr>(.*?)</tr>}gs;

	return $row;
}

sub cell
{
	my ($page, $handler, $label) = @_;
	my ($cell) = row_of($page, $handler) =~ m{data-label="$label">(.*?)</td>}s;

	return shown($cell);
}

# ---- nothing there yet ----

$node->safe_psql('postgres', 'CREATE EXTENSION dbopt CASCADE');
my $page = report();
is(malformed($page), '', 'empty: well-formed');
has($page, qr/No handler is registered yet/, 'empty: says how to begin');
has($page, qr/No event was given up/, 'empty: no dead letters');
is(scalar(minutes($page)), 60, 'empty: an hour has 60 minutes');

# ---- hostile names, and events of which some fail ----

my $hostile = q{</bdi><script>alert('1')</script>&amp;" onload="x};
$node->safe_psql('postgres', qq{
	CREATE ROLE worker LOGIN;
	CREATE ROLE reader LOGIN;
	CREATE ROLE auditor LOGIN IN ROLE pg_read_all_stats;
	SELECT dbopt_create_events('events', mark_processed => false);
	GRANT SELECT ON events TO worker;
	CREATE FUNCTION deliver(event events) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		IF event.data ? 'fail' THEN
			RAISE EXCEPTION '%', event.data ->> 'fail' USING ERRCODE = 'check_violation';
		END IF;
	END \$\$;
	SELECT dbopt_register_handler('good', 'GOOD', 'deliver(events)', run_as => 'worker');
	SELECT dbopt_register_handler(\$h\$$hostile\$h\$, 'BAD.*', 'deliver(events)', run_as => 'worker');
	SELECT dbopt_register_handler(U&'\\202E\\05D0 \\+01F680\\0007', repeat('LONG.', 100), 'deliver(events)', run_as => 'worker');
	INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
	SELECT CASE WHEN n <= 1000 THEN 'GOOD' ELSE 'BAD.<b>' END, 'a', gen_random_uuid(),
		CASE WHEN n <= 1000 OR n % 10 <> 0 THEN '{}' ELSE '{"fail": "card 4711 <img src=x> declined"}' END::jsonb
	FROM generate_series(1, 1200) n;
	SELECT dbopt_drain();
});
is( $node->safe_psql('postgres',
		'SELECT sum(successes), sum(failures), sum(dead_letters) FROM dbopt_retry_stats()'),
	'1180|20|20',
	'delivered, and given up');

$page = report();
is(malformed($page), '', 'hostile names: well-formed');
SKIP:
{
	skip 'the server is built without libxml', 1
	  if $node->safe_psql('postgres', "SELECT count(*) FROM pg_config WHERE name = 'CONFIGURE' AND setting LIKE '%libxml%'") eq '0';
	is( $node->safe_psql('postgres',
			'SELECT xml_is_well_formed_document(dbopt_report())'),
		't', 'hostile names: an XML parser reads it');
}
lacks($page, qr/<(?:script|img|b>|iframe|link|object|base|form)\b/, 'no element of theirs');
ok(index(shown($page), $hostile) >= 0, 'the name is shown as it is');
has($page, qr/&amp;amp;&quot; onload=&quot;x<\/bdi>/, '... also with quotes that would not end an attribute');
has($page, qr/&#x202E;&#x5D0; &#x1F680;&#xFFFD;<\/bdi>/, 'writing direction kept to itself, control characters replaced');

# ---- nothing from elsewhere ----

my ($policy, $style) =
  $page =~ m{http-equiv="Content-Security-Policy" content="([^"]*)".*<style>(.*?)</style>}s;
like($policy, qr/^default-src 'none'/, 'the policy begins with nothing');
like($policy, qr/; style-src 'sha256-\Q@{[ sha256_base64($style) ]}\E=*'$/, '... and allows the one style');
lacks($style, qr/url\(|\@import/, 'the style fetches nothing');
lacks($page, qr/<[^<>]*\s(?:style|src|srcset|on\w+)=/, 'no style, source or script in attributes');
is_deeply([ grep { !/^#[a-z-]+$/ } $page =~ /href="([^"]*)"/g ], [], 'links stay within the page');

# ---- the figures are those of the statistics ----

is(column_sum($page, 1), 1180, 'the hour: delivered');
is(column_sum($page, 2), 20, 'the hour: failed');
is(column_sum($page, 3), 20, 'the hour: given up');
cmp_ok(column_sum($page, 7), '>', 0, 'the hour: sessions were at work');
has($page, qr{<dt>Delivered</dt><dd>1,180 }, 'its sum at the top');
lacks($page, qr/(?:LONG\.){30}/, 'a long event type is cut');
is(cell($page, 'good', 'Delivered'), '1,000', 'a handler: delivered');
is(cell($page, 'good', 'Failed'), '0', '... failed');
has(row_of($page, 'good'), qr/M\d+ \d+v-\d+h4v\d+z/, '... drawn');
has($page, qr/<td class="n" data-label="Failed"><b class="bad">20</, 'another one: failed');

# ---- health ----

my ($overall, $checks) = split /\|/, $node->safe_psql('postgres', q{
	SELECT max(status) FILTER (WHERE check_name = 'overall'), count(*) - 1 FROM dbopt_health()});
has($page, qr{<header>(?:(?!</header>).)*<span class="badge \w+"><span[^>]*>[^<]*</span> $overall</span>}s,
	'the overall status at the top');
my ($health) = $page =~ m{<section id="health">(.*?)</section>}s;
is(scalar(() = $health =~ /<dt>/g), $checks, 'and a line for each check');
has($health, qr{degraded</span> dead letters</dt><dd>[^<]*20}, '... with its detail');

# ---- latency, the pool, indexes, dead letters ----

is(scalar(grep { $_->[1] ne '0' && grep { !/^(?:<&#xA0;)?\d[\d.]*&#xA0;\S+$/ } @$_[ 4 .. 6 ] } minutes($page)), 0, 'each minute with deliveries has its times');
has($page, qr/<path class="line $_" d="[^"]*[hV]\d/, "and they are drawn: $_") foreach qw(p50 p95 p99);

my $released = $node->safe_psql('postgres', q{SELECT count FROM dbopt_pool_events() WHERE event = 'release'});
my ($pool) = $page =~ m{<section id="pool">(.*?)</section>}s;
has($pool, qr/ 0 of 5 sessions at work, \d+ idle, 0 jobs waiting\. <span class="sub">Environment development, at least 1 kept\./, 'the pool');
has($pool, qr{<dt>release</dt><dd>$released</dd>}, '... and what has happened in it');
has($pool, qr{<path class="accent" d="[^"]*\dV\d}, '... drawn');

my ($indexes) = $page =~ m{<section id="indexes">(.*?)</section>}s;
is_deeply(
	[ sort map { shown($_) } $indexes =~ m{<span class="name">(<bdi>.*?</bdi></span> <span class="badge \w+"><span[^>]*>[^<]*</span> \w+)</span>}g ],
	[ sort map { my ($name, $status) = split /\|/; "$name " . { valid => '&#x2713;', missing => '!' }->{$status} . " $status" }
		split /\n/, $node->safe_psql('postgres', q{SELECT name, status FROM dbopt_index_status() WHERE status <> 'inapplicable'}) ],
	'indexes and their status');

my ($dead) = $page =~ m{<section id="dead-letters">(.*?)</section>}s;
is(() = $dead =~ m{<code>23514</code> <bdi>card 4711 &lt;img src=x&gt; declined</bdi>}g, 20, 'each dead letter');

# A table that somebody has locked does not hold it up.
$page = $node->safe_psql('postgres', q{
	BEGIN;
	LOCK TABLE events;
	SELECT report ->> 'dbopt_report' FROM dbopt_with_connection('SELECT dbopt_report()') AS report;
	COMMIT;
});
is(cell($page, 'good', 'Waiting'), 'unknown', 'what waits in a locked table is unknown');
is(column_sum($page, 1), 1180, '... and the rest is there');

# ---- breakers ----

$node->safe_psql('postgres', q{
	SELECT dbopt_trip_circuit_breaker('good'), dbopt_reset_circuit_breaker('good');
	SELECT dbopt_trip_circuit_breaker('database');
});
$page = report();
my ($breakers) = $page =~ m{<section id="breakers">(.*?)</section>}s;
has($breakers, qr{<bdi>database</bdi></span> <span class="badge bad">.*?by hand, until it is reset}s, 'open by hand');
is(() = $breakers =~ m{<td><bdi>good</bdi></td>}g, 2, 'opened and closed again');
has($breakers, qr{<div class="lane">.*<rect class="bad" x="\d+"}s, 'drawn');
my %places;
push @{ $places{$1} }, [ $2, $2 + $3 ] while $breakers =~ /<rect class="(\w+)" x="(\d+)" y="0" width="(\d+)"/g;
is_deeply([ grep { $_->[0] > 3600 - 18 || $_->[1] > 3600 } @{ $places{bad} } ], [], '... to be seen, however short a time ago');
has($breakers, qr/the other 2 breakers/, 'those that were closed are counted');
$node->safe_psql('postgres', "SELECT dbopt_reset_circuit_breaker()");

$node->safe_psql('postgres', q{
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, failure_threshold, reset_timeout)
	VALUES ('stubborn', 1000, '1 ms', '10 ms', 1, '10 ms');
	CREATE FUNCTION refuse(event events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		RAISE EXCEPTION 'refused' USING ERRCODE = 'connection_exception';
	END $$;
	SELECT dbopt_register_handler('down', 'DOWN', 'refuse(events)', run_as => 'worker', policy => 'stubborn');
	INSERT INTO events (event_type, aggregate_type, aggregate_id, data) VALUES ('DOWN', 'a', gen_random_uuid(), '{}');
});
ok( $node->poll_query_until('postgres',
		q{SELECT dbopt_report() ~ '<bdi>down</bdi></td><td><span class="badge bad">[^\n]* [2-9][0-9]* trials failed since'}),
	'an outage tells how many trials have failed');
($breakers) = report() =~ m{<section id="breakers">(.*?)</section>}s;
cmp_ok(scalar(() = $breakers =~ m{<td><bdi>down</bdi></td>}g), '<=', 2, '... and is one change of state, or two');
$node->safe_psql('postgres', "SELECT dbopt_unregister_handler('down', discard => true)");

# ---- whose errors ----

my ($status, $out, $err) = $node->psql('postgres', 'SET ROLE reader; SELECT dbopt_report()');
like($err, qr/permission denied for function dbopt_report/, 'not for everybody');
$node->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION dbopt_report() TO reader, worker, auditor');
$page = report('postgres', 'SET ROLE reader; ');
is(malformed($page), '', 'for who has no other right: well-formed');
is(column_sum($page, 1), 1180, '... with the figures');
lacks($page, qr/4711|23514/, '... without texts and codes of errors');
foreach my $role (qw(worker auditor))
{
	my $dead = report('postgres', "SET ROLE $role; ");

	has($dead, qr/<code>23514<\/code> <bdi>card 4711 &lt;img src=x&gt; declined/, "$role: with them");
}

# ---- time zones, a search path of the caller's ----

has(report('postgres', "SET timezone = 'Asia/Kolkata'; "), qr/ IST \(UTC\+0530\)/, 'the time zone is told');
has(report('postgres', "SET timezone = 'Asia/Kolkata'; "), qr{<time datetime="[0-9T:-]+Z">\d\d:\d\d:\d\d IST</time>}, '... with each time');
is( $node->safe_psql('postgres', q{
		SET search_path = pg_temp;
		CREATE FUNCTION pg_temp.left(text, int) RETURNS text LANGUAGE sql AS $$ SELECT 'mine' $$;
		CREATE TEMP VIEW dbopt_handlers AS SELECT 1;
		SELECT public.dbopt_report() ~ 'mine'}),
	'f', 'nothing of the caller is called');

# ---- paused, copied, other encodings, many handlers ----

$node->safe_psql('postgres', 'SELECT dbopt_pause()');
has(report(), qr/Delivery is paused/, 'paused');
$node->safe_psql('postgres', 'SELECT dbopt_resume()');

$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
has(report('copy'), qr/restored or copied, and is paused/, 'copied');
is(column_sum(report('copy'), 1), 0, "the copy's hour is its own");

$node->safe_psql('postgres', "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'");
$node->safe_psql('postgres', "CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'");
foreach my $case ([ 'latin', '&#xE9;' ], [ 'bytes', '&#xFFFD;' ])
{
	my ($database, $expected) = @$case;

	$node->safe_psql($database, q{
		SET client_encoding = sql_ascii;
		CREATE EXTENSION dbopt CASCADE;
		SELECT dbopt_create_events('events');
		CREATE FUNCTION deliver(events) RETURNS void LANGUAGE sql AS 'SELECT';
		DO $do$ BEGIN EXECUTE convert_from('\x53454c4543542064626f70745f72656769737465725f68616e646c657228276e61e976272c20272a272c202764656c69766572286576656e74732927293b', getdatabaseencoding()); END $do$;
	});
	$page = report($database);
	is(malformed($page), '', "$database: well-formed");
	has($page, qr/<bdi>na${expected}v<\/bdi>/, "$database: the name");
}

$node->safe_psql('postgres', q{
	SELECT dbopt_register_handler('many ' || n, 'MANY.' || n, 'deliver(events)', run_as => 'worker')
	FROM generate_series(1, 310) n;
});
$page = report();
is(malformed($page), '', '313 handlers: well-formed');
is(() = $page =~ /<svg class="spark"/g, 300, '... of which 300 are shown');
has($page, qr/13 quieter handlers are left out/, '... and 13 are not');

# ---- a reset, a restart ----

$node->safe_psql('postgres', 'SELECT dbopt_reset_stats()');
is(column_sum(report(), 1), 1180, 'the hour outlasts dbopt_reset_stats()');

$node->restart;
$page = report();
is(malformed($page), '', 'after a restart: well-formed');
is(column_sum($page, 1), 0, 'the hour begins anew');

$node->stop;
done_testing();
