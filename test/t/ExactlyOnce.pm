# The question of the tests about delivery: has each committed event had its
# effect exactly once?  What a failure needs to be understood is shown with it.
#
# Handlers write (handler, id) to the table effects, with ids as text or uuid.
package ExactlyOnce;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(drained each_once no_job_failed);

# Where the deliveries stand.
sub state_of_delivery
{
	my ($node) = @_;

	return join "\n", map { "$_:\n" . $node->safe_psql('postgres', $_) } (
		'SELECT * FROM dbopt_backlog()',
		'SELECT * FROM dbopt_retry_stats()',
		'SELECT * FROM dbopt_pool_sessions()',
		'SELECT * FROM dbopt_cursor JOIN dbopt_cursor_version USING (cursor_id)',
		'SELECT * FROM dbopt_chunk',
		'SELECT * FROM dbopt_retry_queue LIMIT 20',
		'SELECT * FROM dbopt_dead_letter LIMIT 20',
		'SELECT * FROM pg_prepared_xacts',
		"SELECT pid, backend_type, state, wait_event, query FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
}

# Waits until everything is delivered, which may take long on a slow machine.
sub drained
{
	my ($node, $name, $timeout) = @_;
	my $done = $node->safe_psql('postgres', sprintf "SELECT dbopt_drain('%d s')", $timeout // 300);

	return is($done, 't', "$name: nothing is left to deliver") || diag(state_of_delivery($node));
}

# Compares the events of a table with the effects of a handler.
sub each_once
{
	my ($node, $handler, $table, $key, $at_least) = @_;
	my $compared = qq{
		(SELECT e.$key AS event_id, e.event_type, e.log_position, e.xmin AS written_by, e.tableoid::regclass AS part,
			x.*, e.$key IS NULL AS invented
		  FROM $table e
		  FULL JOIN (SELECT id, count(*) AS n, array_agg(xmin) AS run_by FROM effects
				WHERE handler = '$handler' GROUP BY id) x ON x.id = e.$key) AS compared};
	my $result = $node->safe_psql('postgres', qq{
		SELECT count(*) FILTER (WHERE id IS NULL) AS missing,
			count(*) FILTER (WHERE n > 1) AS doubled,
			count(*) FILTER (WHERE invented),
			count(event_id) >= $at_least AS enough
		  FROM $compared});

	return is($result, '0|0|0|t', "$handler: each committed event once, and nothing else")
	  || diag(
		$node->safe_psql('postgres',
			"SELECT * FROM $compared WHERE id IS NULL OR n > 1 OR invented ORDER BY log_position LIMIT 50"),
		"\n",
		state_of_delivery($node));
}

# Outside of handlers nothing has gone wrong.
sub no_job_failed
{
	my ($node) = @_;
	my @failed = grep { /a job of handler .* failed/ } split /\n/,
	  slurp_file($node->logfile);

	return is(scalar(@failed), 0, 'no job has failed') || diag(join "\n", @failed[ 0 .. ($#failed < 9 ? $#failed : 9) ]);
}

1;
