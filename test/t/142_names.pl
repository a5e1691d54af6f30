# Names that are not valid in the database's encoding: reports, metrics and
# alerts are sent nevertheless, as text that every client can read.
use strict;
use warnings;

use Encode;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('names');
$node->init(extra => [ '-E', 'UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.alert_delay = '100 ms'");
$node->start;

# As bytes; names are in the encoding of the database where they are given.
sub sql
{
	my ($db, $statement, $encoding) = @_;

	return $node->safe_psql($db, "SET client_encoding = $encoding; $statement");
}

my $utf8 = "na\xC3\xAFve \xE2\x82\xAC";
my $latin1 = "na\xEFve";

sql('postgres', qq{CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'}, 'UTF8');
sql('postgres', qq{CREATE DATABASE "$utf8" ENCODING 'EUC_JP' TEMPLATE template0 LOCALE 'C'}, 'UTF8');
sql('postgres', qq{CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'}, 'UTF8');
sql('latin', qq{CREATE DATABASE "$latin1" ENCODING 'UTF8' TEMPLATE template0 LOCALE 'C'}, 'LATIN1');

# Database, handler, and how both are told.
foreach my $case (
	[ $utf8, 'handler', 'na\xC3\xAFve \xE2\x82\xAC', 'handler' ],
	# In row 9 of EUC_JP there are no characters.
	[ $utf8, "\xA9\xA1", 'na\xC3\xAFve \xE2\x82\xAC', undef ],
	[ $latin1, "\xC3\xA9", 'na\xEFve', "\xC3\xA9" ],
	[ 'bytes', $latin1, 'bytes', 'na\xEFve' ],
	[ 'bytes', "$latin1\\", 'bytes', 'na\xEFve\\' ],
	[ 'bytes', $utf8, 'bytes', $utf8 ])
{
	my ($db, $handler, $told_db, $told_handler) = @$case;
	my $name = "database $told_db, handler " . ($told_handler // 'that is no text in UTF-8');
	my ($metrics, $rows);

	sql($db, qq{
		SET client_min_messages = warning;
		CREATE EXTENSION IF NOT EXISTS dbopt CASCADE;
		SELECT dbopt_create_events('events') WHERE to_regclass('events') IS NULL;
		CREATE OR REPLACE FUNCTION deliver(events) RETURNS void LANGUAGE sql AS '';
		SELECT dbopt_register_handler('$handler', 'A', 'deliver(events)')}, 'SQL_ASCII');
	my $report = sql($db, 'SELECT dbopt_report()', 'SQL_ASCII');
	ok($report =~ /^<!DOCTYPE html>/ && $report !~ /[^\n\x20-\x7E]/, "report: $name");
	if (defined $told_handler)
	{
		$metrics = sql($db, 'SELECT dbopt_prometheus()', 'UTF8');
		ok(eval { decode('UTF-8', my $copy = $metrics, Encode::FB_CROAK); 1 }, "metrics are UTF-8: $name");
		(my $label = "datname=\"$told_db\",handler=\"$told_handler\"") =~ s/\\/\\\\/g;
		ok(index($metrics, "circuit_breaker_state{environment=\"development\",$label} 0") >= 0, "... and have both names: $name");
		$rows = sql($db, q{SELECT DISTINCT labels FROM dbopt_metrics() WHERE name = 'circuit_breaker.state' AND labels ->> 'handler' <> 'database'}, 'UTF8');
		is(eval { my $labels = decode_json($rows); encode('UTF-8', "$labels->{datname} $labels->{handler}") }, "$told_db $told_handler", "rows: $name");
	}
	sql($db, "SELECT dbopt_unregister_handler('$handler')", 'SQL_ASCII');
}

# Whoever listens is sent the alert, and no error.
foreach my $case ([ $utf8, 'na\xC3\xAFve \xE2\x82\xAC' ], [ $latin1, 'na\xEFve' ])
{
	my ($db, $told) = @$case;
	my $listener = $node->background_psql($db, on_error_stop => 0);
	my $log_start = -s $node->logfile;

	$listener->query_safe('SET client_encoding = UTF8; LISTEN dbopt_alert');
	sql($db, 'SELECT dbopt_pause()', 'UTF8');
	$node->wait_for_log(qr/dbopt: health of database .* is degraded, was healthy/, $log_start);
	my $out = $listener->query('SELECT 1');
	is($listener->{stderr}, '', "no error: $told");
	my ($json) = $out =~ /payload "(.*)" received/;
	is(eval { decode_json($json)->{database} }, $told, 'an alert') or diag $out;
	$listener->quit;
}

$node->stop;
done_testing();
