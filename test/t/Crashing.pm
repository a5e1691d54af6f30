# For tests whose server goes down while it is asked: a psql that ends before
# it has read its query breaks the pipe that the query is written to, which is
# no more than one more look that has failed.
package Crashing;

use strict;
use warnings;

use PostgreSQL::Test::Cluster;

my $poll = \&PostgreSQL::Test::Cluster::poll_query_until;

no warnings 'redefine';
*PostgreSQL::Test::Cluster::poll_query_until = sub {
	my @arguments = @_;
	my $result;

	until (eval { $result = $poll->(@arguments); 1 })
	{
		die $@ unless $@ =~ /Broken pipe/;
	}
	return $result;
};

1;
