# Builds that can never succeed, which only the rows of a table tell: each is
# given up with its error in the status, at once or after the attempts of the
# policy "database", and is not tried again by itself; the others are built.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use Building;
use PostgreSQL::Test::Utils;
use TestModule;
use Test::More;

my $dir = build_module();
my $node = building_server('hopeless', "shared_preload_libraries = 'dbopt, $dir/dbopt_test'");

# Long texts that cannot be compressed to what an index takes.
sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE documents AS SELECT i % 10 AS a, (SELECT string_agg(md5((i * 1000 + j)::text), '') FROM generate_series(1, 150) j) AS body
		FROM generate_series(1, 20) i;
	CREATE FUNCTION moody(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		RAISE 'the connection timed out, says row %', $1;
	END $$;
});

# The name, the definition, the attempts, and the error.
my @hopeless = (
	[ 'btree_row', '(body)', 1, '54000', qr/^index row size \d+ exceeds btree version 4 maximum 2704 for index "btree_row"/ ],
	[ 'gin_key', 'USING gin ((ARRAY[body]))', 1, '54000', qr/^index row size \d+ exceeds maximum 2712 for index "gin_key"/ ],
	[ 'division', '((1 / a))', 1, '22012', qr/^division by zero/ ],
	[ 'raised', '(public.moody(a))', 3, 'P0001', qr/^the connection timed out, says row \d/ ]);

# A sample is taken of each before it is built, which does not fail of them all.
declare_all();
my $failed = failures();
is($failed, join("\n", map { "$_->[0]|failed|$_->[2]|$_->[3]" } sort { $a->[0] cmp $b->[0] } @hopeless),
	'each is given up, after as many attempts as its error deserves');
foreach my $case (@hopeless)
{
	my ($name, undef, undef, undef, $error) = @$case;

	like(sql("SELECT last_error FROM dbopt_index_status() WHERE name = '$name' AND status = 'failed'"), $error, "$name: the status says why");
}
is(indexes('documents'), 'possible', 'nothing is left of any, and the one that is possible is built');

# Others are built afterwards; those are left alone, until somebody asks.
my $failed_at = failed_at();
sql(q{
	CREATE TABLE others AS SELECT 1 AS a;
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('other', 'others', '(a)');
	CALL dbopt_ensure_indexes('others', true);
});
is(sql(q{SELECT status FROM dbopt_index_status() WHERE name = 'other'}), 'valid', 'another one is built');
is(failed_at(), $failed_at, '... and what has failed is not tried again');
sql(q{DELETE FROM documents WHERE a = 0; UPDATE documents SET body = left(body, 100);
	CREATE OR REPLACE FUNCTION moody(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
	CALL dbopt_ensure_indexes('documents', true)});
is(failures(), '', 'when the rows are mended, all are built');
is(sql(q{SELECT count(*) FROM dbopt_index_status() WHERE table_name = 'documents' AND status = 'valid'}), scalar(@hopeless) + 1, '... and valid');

sub declare_all
{
	my $rows = join(', ', map { "('$_->[0]', 'documents', '$_->[1]')" } [ 'possible', '(a)' ], @hopeless);

	sql(qq{
		INSERT INTO dbopt_index (name, table_name, definition) VALUES $rows;
		SET client_min_messages = error;
		CALL dbopt_ensure_indexes('documents', true);
	});
	return;
}

sub failures
{
	return sql(q{SELECT name, state, attempts, error_code FROM dbopt_index_state WHERE state = 'failed' ORDER BY name COLLATE "C"});
}

sub failed_at
{
	return sql(q{SELECT string_agg(failed_at::text, ' ' ORDER BY name) FROM dbopt_index_state WHERE state = 'failed'});
}

# ---- an owner who has no sessions -----------------------------------------

# They end before they are ready: he is built for as one who cannot log in, and
# nobody waits for him.
sql(q{
	CREATE ROLE refused LOGIN;
	CREATE TABLE a_refused AS SELECT 1 AS a;
	CREATE TABLE b_other AS SELECT 1 AS a;
	ALTER TABLE a_refused OWNER TO refused;
	ALTER ROLE refused SET dbopt_test.refuse = on;
	GRANT INSERT ON dbopt_index TO refused;
	GRANT CREATE ON SCHEMA public TO refused;
	SET ROLE refused;
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('a_refused_a', 'a_refused', '(a)');
	RESET ROLE;
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('b_other_a', 'b_other', '(a)');
	CALL dbopt_ensure_indexes();
});
wait_for(q{(SELECT count FROM dbopt_pool_events() WHERE event = 'createFail') > 0}, 'a session of the owner is not to be had');
wait_for(qq{(SELECT status FROM dbopt_index_status() WHERE name = '$_') = 'valid'}, "$_ is built")
  foreach ('a_refused_a', 'b_other_a');
is(sql(q{SELECT relowner::regrole FROM pg_class WHERE relname = 'a_refused_a'}), 'refused', '... and belongs to the owner of the table');

$node->stop;
done_testing();
