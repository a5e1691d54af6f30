# For tests whose server goes down while it is asked: a psql that ends before
# it has read its query breaks the pipe that the query is written to, which is
# no more than one more look that has failed.
package Crashing;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;

our @EXPORT = qw(write_poison);

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

# Writes events that may crash the server as soon as they are committed: psql may
# still be there then, and has lost its connection.  Any other error is one.
sub write_poison
{
	my ($node, $db, $statement) = @_;

	return if eval { $node->safe_psql($db, $statement); 1 };
	die $@ unless $@ =~ /Broken pipe|connection to server was lost|server closed the connection|connection error/;
	return;
}

1;
