# What tests ask of the one server that they have.
package Asking;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

our @EXPORT = qw(asking sql wait_for);

my $node;

# From now on it is this server that is asked.
sub asking
{
	($node) = @_;
	return;
}

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

sub wait_for
{
	my ($condition, $name) = @_;

	ok($node->poll_query_until('postgres', "SELECT coalesce(($condition), false)"), $name);
	return;
}

1;
