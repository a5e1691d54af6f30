# What tests ask of the one server that they have.
package Asking;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

our @EXPORT = qw(asking asked sql wait_for becomes failure set_reload);

my ($node, $before);

# From now on it is this server that is asked, by statements that others, such as
# SET, come before.
sub asking
{
	($node, $before) = (@_, '');
	return;
}

# A session of it that stays.
sub asked
{
	my ($database, @options) = @_;

	return $node->background_psql($database // 'postgres', @options);
}

sub sql
{
	my ($statement, $database) = @_;

	return $node->safe_psql($database // 'postgres', "$before$statement");
}

# The condition is an expression, or a query for one value.
sub wait_for
{
	my ($condition, $name, $database) = @_;

	ok($node->poll_query_until($database // 'postgres', "SELECT coalesce(($condition), false)"), $name)
	  or diag sql('SELECT pid, backend_type, state, wait_event, query FROM pg_stat_activity');
	return;
}

# A query comes to print this.
sub becomes
{
	my ($query, $expected, $name) = @_;

	ok($node->poll_query_until('postgres', $query, $expected), $name)
	  or diag sql($query), "\n", sql('SELECT pid, backend_type, state, wait_event, query FROM pg_stat_activity');
	return;
}

# What psql says of a statement that fails.
sub failure
{
	my ($statement) = @_;
	my ($status, $printed, $errors) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");

	isnt($status, 0, 'it fails: ' . substr($statement, 0, 70));
	return $errors;
}

# SETTING = VALUE.  Processes that are started from now on know it.
sub set_reload
{
	my ($setting) = @_;
	my $before = sql('SELECT pg_conf_load_time()');

	sql("ALTER SYSTEM SET $setting");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT pg_conf_load_time() > '$before'")
	  or die 'the server does not read its configuration';
	return;
}

1;
