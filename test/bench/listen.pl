#!/usr/bin/perl
# The reference for latency: what an application does without dbopt, at its
# least.  Waits for notifications and calls the handler for the event that
# each one names.  Prints a line when it listens; ends when it is told to.
use strict;
use warnings;

use IO::Handle;
use IO::Select;

require DBI;

my $db = DBI->connect('dbi:Pg:dbname=bench', undef, undef,
	{ RaiseError => 1, AutoCommit => 1 });
my $handle = $db->prepare(
	'SELECT bench.note(e) FROM bench.notified e WHERE id = ?');
my $socket = IO::Handle->new_from_fd($db->{pg_socket}, 'r');
my $wait = IO::Select->new($socket);

$db->do('LISTEN bench');
STDOUT->autoflush(1);
print "listening\n";
while (1)
{
	while (my $note = $db->func('pg_notifies'))
	{
		$handle->execute($note->[2]);
		$handle->finish;
	}
	$wait->can_read;
}
