# Two events with the same key in the same place of the log, which a partitioned
# table may have, are not merged: those of their type wait, whoever looks can
# still look, and the log says why.  All others are delivered.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('doubled');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
fsync = off
});
$node->start;

sub sql
{
	return $node->safe_psql('postgres', @_);
}

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE log (id int, event_type text, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
	CREATE TABLE log_2 PARTITION OF log DEFAULT;
	SELECT dbopt_attach_events('log', 'id');
	CREATE TABLE done (id int, event_type text);
	CREATE FUNCTION handle(log) RETURNS void LANGUAGE sql AS 'INSERT INTO done VALUES ($1.id, $1.event_type)';
	SELECT dbopt_register_handler('handle', '*', 'handle(log)');
	INSERT INTO log VALUES (1, 'DOUBLED', '2026-01-01'), (1, 'DOUBLED', '2026-02-01'),
		(2, 'DOUBLED', '2026-01-01'), (3, 'SINGLE', '2026-01-01'), (3, 'OTHER', '2026-02-01')});

ok($node->poll_query_until('postgres', 'SELECT count(*) = 2 FROM done'), 'others are delivered');
my ($status, undef, $err) = $node->psql('postgres', 'SELECT dbopt_drain()', extra_params => [ '-v', 'VERBOSITY=verbose' ]);
isnt($status, 0, 'these do not come by waiting');
like($err, qr/ERROR:  21000: table "log" has two events with the same key and log position\n.*key is 1\.\n.*HINT:  Delete one/s,
	'... which is said');
is(sql(q{SELECT event_type, waiting > 1 FROM dbopt_backlog() ORDER BY event_type}), "DOUBLED|t\nOTHER|f\nSINGLE|f",
	'who watches sees all types');
like(sql(q{SELECT detail FROM dbopt_health() WHERE check_name = 'backlog'}), qr/without created_at .* for handlers "handle"/,
	'... and that something waits');
like(slurp_file($node->logfile), qr/job of handler "handle" failed.*: table "log" has two events with the same key and log position/,
	'the log tells the reason');

sql(q{DELETE FROM log WHERE (id, at) = (1, '2026-02-01')});
is(sql('SELECT dbopt_drain()'), 't', 'it goes on when one of them is deleted');
is(sql('SELECT * FROM done ORDER BY id, event_type'), "1|DOUBLED\n2|DOUBLED\n3|OTHER\n3|SINGLE", 'each once');

$node->stop;
done_testing();
