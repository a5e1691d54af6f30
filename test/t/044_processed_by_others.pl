# Events that come as processed, or are so when a session looks: a cursor moves on
# behind many of them, and loses nothing that was being written meanwhile.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('by_others');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;
asking($node);

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE log (id int PRIMARY KEY, event_type text DEFAULT 'T', processed boolean NOT NULL DEFAULT false);
	SELECT dbopt_attach_events('log');
	CREATE TABLE effects (handler text, id int);
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE sql AS $$ INSERT INTO effects VALUES ('handle', e.id) $$;
	SELECT dbopt_register_handler('handle', 'T', 'handle(log)')});
my $place = 'SELECT last_position FROM dbopt_cursor_version';
sql('INSERT INTO log (id, processed) SELECT n, true FROM generate_series(1, 10) n');
drained($node, 'a few processed events');
is(sql($place), '-1', '... which nothing is written for');

my $writer = $node->background_psql('postgres');
$writer->query_safe('BEGIN; INSERT INTO log VALUES (11)');
sql('INSERT INTO log (id, processed) SELECT n, true FROM generate_series(101, 1100) n');
becomes("SELECT last_position > 0 FROM ($place) v", 't', 'many, which a cursor moves on behind');
$writer->query_safe('INSERT INTO log VALUES (12); COMMIT');
$writer->quit;
sql('INSERT INTO log VALUES (2000); UPDATE log SET processed = false WHERE id = 500');
drained($node, 'events behind and before it');
is(sql(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM effects}), '11 12 500 2000', '... each is delivered once');
is(sql('SELECT count(*) FROM log WHERE NOT processed'), '0', '... and marked');
no_job_failed($node);

$node->stop;
done_testing();
