# The handlers in C that tests use: built where the test keeps its own files, and
# loaded from there.  Nothing is installed.
package TestModule;

use strict;
use warnings;

use Exporter 'import';
use File::Copy qw(copy);
use FindBin;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(build_module);

# The directory that dbopt_test.so is in.
sub build_module
{
	my $dir = PostgreSQL::Test::Utils::tempdir;

	foreach my $file (qw(Makefile dbopt_test.c hold.c hooks.c linger.c spoil.c))
	{
		copy("$FindBin::RealBin/../module/$file", $dir) or die "$file: $!";
	}
	delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS)};

	# The cache may be of another user, where the tests change to postgres.
	local $ENV{CCACHE_DISABLE} = 1;
	system_or_bail('make', '-s', '-C', $dir, 'with_llvm=no', 'COPT=-Werror', 'dbopt_test.so');
	return $dir;
}

1;
