# Clusters whose superuser is "postgres", whoever runs the tests; to be loaded
# before them.  What a test says that nobody may do as
# postgres would otherwise say nothing.
package Superuser;

use strict;
use warnings;

use PostgreSQL::Test::Cluster;

# Utils has just removed what was there.
$ENV{PGUSER} = 'postgres';

my $init = PostgreSQL::Test::Cluster->can('init');

no warnings 'redefine';
*PostgreSQL::Test::Cluster::init = sub {
	my ($self, %params) = @_;

	return $self->$init(%params, extra => [ '--username=postgres', @{ $params{extra} // [] } ]);
};

1;
