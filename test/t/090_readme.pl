# Every SQL example of the README runs as written.
#
# The blocks marked "sql" are run in their order, each by a psql of its own in
# the same database.  A block marked "text" that follows one is the end of
# what psql prints for it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# The README's examples: [line, statements, expected output or undef].
sub examples
{
	my $text = slurp_file('README.md');
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

my $node = PostgreSQL::Test::Cluster->new('readme');
$node->init;
$node->append_conf(
	'postgresql.conf', qq{
	shared_preload_libraries = 'dbopt'
	max_worker_processes = 20
});
$node->start;

my @examples = examples();
cmp_ok(scalar(@examples), '>', 10, 'the README has examples');
foreach my $example (@examples)
{
	my ($line, $statements, $expected) = @$example;
	my ($printed, $errors) = ('', '');
	my $ok = IPC::Run::run(
		[
			'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1',
			'-d', $node->connstr('postgres'), '-f', '-'
		],
		'<', \$statements, '>', \$printed, '2>', \$errors);

	ok($ok, "the example in line $line runs") or diag($errors);
	next unless defined $expected;
	$expected = trimmed($expected);
	is(end_of($printed, $expected), $expected, 'and prints what it says');
}

$node->stop;
done_testing();
