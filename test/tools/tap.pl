#!/usr/bin/perl
# Runs TAP producing tests as prove(1) does, and writes truthful counts.
#
# usage: tap.pl [--counts FILE] [--jobs N] [--exec 'COMMAND ...'] TEST...
#
# --counts gets one line "passed failed skipped", and then one for each failed
# test: its file, number and name.  A test that was planned and not run, a file
# without a plan, and a file that ends badly without a failed test of its own
# count as failed; a skipped test counts as skipped, not as passed.  The exit
# code is 1 if anything failed.
use strict;
use warnings;

use Getopt::Long qw(:config require_order);
use TAP::Harness;

my ($counts, $jobs, $exec) = (undef, 1, undef);
GetOptions('counts=s' => \$counts, 'jobs=i' => \$jobs, 'exec=s' => \$exec)
  or exit 2;
my @tests = @ARGV;

my $harness = TAP::Harness->new(
	{   jobs     => $jobs,
		lib      => [ split /:/, $ENV{PERL5LIB} // '' ],
		failures => 1,
		comments => 1,
		$exec ? (exec => [ split ' ', $exec ]) : () });

my (@failures, %name);
$harness->callback(
	made_parser => sub {
		my ($parser, $job) = @_;

		$name{$parser} = $job->[0];
		$parser->callback(
			test => sub {
				my ($test) = @_;
				push @failures, $job->[0] . ': ' . $test->number . ' ' . $test->description unless $test->is_ok;
			});
	});
my $result = $harness->runtests(@tests);

my ($passed, $failed, $skipped) = (0, 0, 0);
foreach my $parser ($result->parsers)
{
	my $planned = $parser->tests_planned // 0;
	my $run = $parser->tests_run;
	my $skips = $parser->skipped;
	my $bad = $parser->failed;

	$bad += $planned - $run if $planned > $run;
	$bad ||= 1 if $parser->has_problems;
	push @failures, "$name{$parser}: ended after $run tests with status " . ($parser->exit // 0)
	  if $bad > $parser->failed || !$parser->is_good_plan;
	$skipped += $skips;
	$failed += $bad;
	$passed += $parser->passed - $skips;
}

# Tests of which nothing came back at all.
my $silent = @tests - scalar($result->parsers);
$failed += $silent if $silent > 0;

if ($counts)
{
	open my $fh, '>', $counts or die "could not write $counts: $!\n";
	print $fh "$_\n" foreach "$passed $failed $skipped", @failures;
	close $fh or die "could not write $counts: $!\n";
}
exit($failed ? 1 : 0);
