# Nothing runs on a standby until it is promoted, then everything does.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf',
	"shared_preload_libraries = 'dbopt'");
$primary->start;
$primary->safe_psql(
	'postgres', q{
CREATE EXTENSION dbopt CASCADE;
SELECT dbopt_create_events('events', mark_processed => false);
CREATE TABLE seen (id uuid);
CREATE FUNCTION see(events) RETURNS void LANGUAGE sql
	AS 'INSERT INTO seen VALUES ($1.id)';
SELECT dbopt_register_handler('see', 'SEE', 'see(events)');
});
$primary->backup('backup');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

my $insert =
  "INSERT INTO events (event_type, aggregate_type, aggregate_id, data) VALUES ('SEE', 'a', gen_random_uuid(), '{}')";

$primary->safe_psql('postgres', $insert);
ok( $primary->poll_query_until('postgres', 'SELECT count(*) FROM seen', 1),
	'delivered on the primary');
$primary->safe_psql('postgres', q{SELECT dbopt_pause_handler('see')});
$primary->safe_psql('postgres', $insert);
$primary->wait_for_catchup($standby);
is( $standby->safe_psql(
		'postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dbopt%'"
	),
	0,
	'no process of dbopt on the standby');
is( $standby->safe_psql(
		'postgres',
		"SELECT status, detail FROM dbopt_health() WHERE check_name = 'scheduler'"
	),
	'healthy|this is a standby, where nothing runs until it is promoted',
	'which is as it should be');

ok( $standby->safe_psql('postgres', 'SELECT dbopt_report()') =~
	  /This server is a standby/,
	'the report of a standby says that it is one');

$primary->stop('immediate');
$standby->promote;
$standby->safe_psql('postgres', q{SELECT dbopt_resume_handler('see')});
ok( $standby->poll_query_until('postgres', 'SELECT count(*) FROM seen', 2),
	'delivered by the promoted standby');
is( $standby->safe_psql('postgres', 'SELECT count(DISTINCT id) FROM seen'),
	2, 'and only what was not delivered before');

$standby->stop;
done_testing();
