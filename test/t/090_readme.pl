# Every SQL example of the README and of the pages in doc/ runs as written, in a
# server that is configured as the README says; so do those of the shell that ask
# a running server.  The others are "make" and its like.
#
# The blocks marked "sql" are run in their order, each by a psql of its own in
# the same database.  A block marked "text" that follows one is the end of
# what psql prints for it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# A page's examples: [line, statements, expected output or undef].
sub examples
{
	my ($page) = @_;
	my $text = slurp_file($page);
	my @examples;

	while ($text =~ /^```sql\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?/msg)
	{
		my $line = 1 + (substr($text, 0, $-[1]) =~ tr/\n//);
		push @examples, [ $line, $1, $2 ];
	}
	return @examples;
}

sub trimmed
{
	my ($text) = @_;

	$text =~ s/[ \t]+$//mg;
	$text =~ s/\s+\z//;
	return $text;
}

# What was printed, cut to the length of what is expected.
sub end_of
{
	my ($printed, $expected) = @_;
	my @printed = split /\n/, trimmed($printed);
	my @expected = split /\n/, $expected;

	splice(@printed, 0, @printed - @expected) if @printed > @expected;
	return join("\n", @printed);
}

my $text = slurp_file('README.md');
my ($settings) = $text =~ /^```ini\n(.*?)^```/ms;
my $node = PostgreSQL::Test::Cluster->new('readme');
$node->init;
$node->append_conf(
	'postgresql.conf', qq{
	logging_collector = on
	log_destination = 'jsonlog'
	log_filename = 'postgresql.log'
	$settings
});
$node->start;

# Runs a page's examples in the database.
sub run_examples
{
	my ($page, $db, $least) = @_;
	my @examples = examples($page);

	cmp_ok(scalar(@examples), '>=', $least, "$page has examples");
	foreach my $example (@examples)
	{
		my ($line, $statements, $expected) = @$example;
		my ($printed, $errors) = ('', '');
		my $ok = IPC::Run::run(
			[
				'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1',
				'-d', $node->connstr($db), '-f', '-'
			],
			'<', \$statements, '>', \$printed, '2>', \$errors);

		ok($ok, "the example in line $line runs") or diag($errors);
		next unless defined $expected;
		$expected = trimmed($expected);
		is(end_of($printed, $expected), $expected, 'and prints what it says');
	}
	return;
}

run_examples('README.md', 'postgres', 20);

# ---- the pages beside it ---------------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE pages');
$node->safe_psql('pages', q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE SCHEMA shop;
	CREATE TABLE shop.orders (id int PRIMARY KEY, customer_id int, status text, created_at timestamptz)});
run_examples('doc/indexes.md', 'pages', 1);
is($node->safe_psql('pages', q{SELECT status FROM dbopt_index_status() WHERE name = 'idx_orders_open'}), 'valid', 'the declared index is there');
run_examples('doc/monitoring.md', 'pages', 2);

# ---- the shell's -----------------------------------------------------------

my $dir = PostgreSQL::Test::Utils::tempdir;

# Runs a block in a directory of its own; returns what it prints.
sub shell
{
	my ($block) = @_;
	my ($printed, $errors) = ('', '');
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');

	ok(IPC::Run::run([ 'bash', '-c', "cd $dir && set -e -o pipefail\n$block" ], '>', \$printed, '2>', \$errors), "this runs:\n$block")
	  or diag($errors);
	return $printed;
}

my ($report) = $text =~ /^```sh\n(psql [^\n]*dbopt_report\(\)[^\n]*\n)```/m;
shell($report // 'false');
like(slurp_file("$dir/report.html"), qr/^<!doctype html>.*<\/html>\s*\z/si, 'and writes a page');

# Members that are there for each retry are those that the README shows.
my ($filter, $shown) = $text =~ /^```sh\n(jq .*?)^```\n\n```json\n(.*?)^```/ms;
SKIP:
{
	skip 'there is no jq', 2 if system('jq --version > /dev/null 2>&1') != 0;
	system_or_bail('cp', $node->data_dir . '/log/postgresql.json', $dir);
	my ($first) = shell($filter // 'false') =~ /\A(\{.*?^\})/ms;
	my @members = map { join ' ', /^  "(\w+)":/mg } $first // '', $shown // 'none';

	is($members[0], $members[1], 'and prints what the README shows');
}

$node->stop;
done_testing();
