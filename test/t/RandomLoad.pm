# What 048_random.pl has delivered: tables, whose triggers keep what each event
# was at each commit; writers that do random things to them; and which effects
# there should be in the end.
#
# An event is told by (id, position, event_type), its identity.  The table
# "identity" has those that were committed; an event that was given another type
# or key, or is gone, leaves its old one there.  "term" says since which
# snapshot a handler is registered, and whether it still is.
package RandomLoad;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(setup_sql verdict_sql writer_script pick chance between);

my @tables = qw(plain marked parts);
my $haste = 0;

sub between
{
	my ($least, $most) = @_;

	return $least + int(rand($most - $least + 1));
}

sub pick
{
	my (@of) = @_;

	return $of[ int(rand(@of)) ];
}

sub chance
{
	my ($probability) = @_;

	return rand() < $probability;
}

sub setup_sql
{
	return q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE identity (source text, id uuid, position bigint, event_type text, born xid8 DEFAULT pg_current_xact_id(),
		PRIMARY KEY (id, position, event_type, source));
	CREATE TABLE effects (n bigserial, handler text, id uuid, position bigint, event_type text,
		xact xid8 DEFAULT pg_current_xact_id());
	CREATE TABLE term (handler text PRIMARY KEY, source text, pattern text, ordered boolean DEFAULT false,
		from_beginning boolean DEFAULT false, before pg_snapshot, after pg_snapshot, ended boolean DEFAULT false);
	CREATE TABLE replay (handler text, since timestamptz, before pg_snapshot);
	CREATE TABLE reset (id uuid);
	CREATE TABLE excused (id uuid);
	CREATE TABLE finished (writer int);
	CREATE TABLE aggregate (source text, id uuid DEFAULT dbopt_uuid_v7(), version bigint DEFAULT 0);
	INSERT INTO aggregate (source) SELECT source FROM unnest(ARRAY['plain', 'marked', 'parts']) source, generate_series(1, 5);
	SELECT dbopt_create_events('plain', false);
	SELECT dbopt_create_events('marked', true);
	CREATE TABLE parts (LIKE plain INCLUDING DEFAULTS, bucket int NOT NULL DEFAULT random() * 2, PRIMARY KEY (id, bucket))
		PARTITION BY LIST (bucket);
	ALTER TABLE parts DROP COLUMN log_position;
	CREATE INDEX ON parts (aggregate_type, aggregate_id, aggregate_version);
	CREATE TABLE parts_0 PARTITION OF parts FOR VALUES IN (0);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
	CREATE TABLE parts_rest PARTITION OF parts FOR VALUES IN (2, 3);
	SELECT dbopt_attach_events('parts', 'id');
	SELECT dbopt_create_events('sometimes', false);
	CREATE FUNCTION keep_identity() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF TG_OP <> 'INSERT' THEN
			DELETE FROM identity i WHERE i.source = TG_ARGV[0] AND i.id = OLD.id AND position = OLD.log_position
				AND i.event_type = OLD.event_type AND born = pg_current_xact_id();
		END IF;
		IF TG_OP <> 'DELETE' THEN
			INSERT INTO identity VALUES (TG_ARGV[0], NEW.id, NEW.log_position, NEW.event_type) ON CONFLICT DO NOTHING;
		END IF;
		RETURN NULL;
	END $$;
	CREATE FUNCTION keep_reset() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.reset VALUES (NEW.id);
		RETURN NULL;
	END $$;
	DO $$
	DECLARE
		source text;
	BEGIN
		FOREACH source IN ARRAY ARRAY['plain', 'marked', 'parts', 'sometimes'] LOOP
			EXECUTE format('CREATE TRIGGER keep AFTER INSERT OR DELETE ON %s
				FOR EACH ROW EXECUTE FUNCTION keep_identity(%1$L)', source);
			EXECUTE format('CREATE TRIGGER renew AFTER UPDATE ON %s
				FOR EACH ROW WHEN ((OLD.id, OLD.event_type, OLD.log_position) <> (NEW.id, NEW.event_type, NEW.log_position))
				EXECUTE FUNCTION keep_identity(%1$L)', source);
		END LOOP;
	END $$;
	CREATE TRIGGER reset AFTER UPDATE OF processed ON marked
		FOR EACH ROW WHEN (OLD.processed AND NOT NEW.processed) EXECUTE FUNCTION keep_reset();
	};
}

# Tables and views to be asked when everything is delivered.
#
# present: the events that are there; had: what handlers were called for, how
# often and when; due: what each handler that is still registered on a plain log
# had, should have had ("must", "again" after a replay), should not ("not") or
# may have had ("perhaps"); marks: how often each marked event was delivered,
# and how often it should.
sub verdict_sql
{
	my $present = join ' UNION ALL ', map {
		"SELECT '$_' AS table, t.id AS key, t.aggregate_id, t.aggregate_version, t.created_at, i.*
		FROM $_ t LEFT JOIN identity i
			ON (i.source, i.id, i.position, i.event_type) = ('$_', t.id, t.log_position, t.event_type)\n"
	} (@tables, 'sometimes');

	return qq{
	CREATE TABLE present AS $present;
	CREATE TABLE had AS
		SELECT handler, id, position, event_type, count(*) AS n, array_agg(xact) AS xacts
		FROM effects GROUP BY 1, 2, 3, 4;
	CREATE INDEX ON had (id);
	ANALYZE present, had;
	CREATE FUNCTION matches(pattern text, event_type text) RETURNS boolean IMMUTABLE LANGUAGE sql
		AS \$\$ SELECT CASE WHEN pattern LIKE '%*' THEN starts_with(event_type, rtrim(pattern, '*'))
			ELSE event_type = pattern END \$\$;
	CREATE VIEW due AS
		SELECT t.handler, e.*, coalesce(h.n, 0) AS n, h.xacts,
			CASE WHEN e.created_at >= r.since THEN 'again'
				WHEN t.from_beginning OR NOT pg_visible_in_snapshot(e.born, t.after) THEN 'must'
				WHEN r.since IS NULL AND pg_visible_in_snapshot(e.born, t.before) THEN 'not'
				ELSE 'perhaps' END AS kind
		FROM term t
		JOIN present e ON e.source = t.source AND matches(t.pattern, e.event_type)
		LEFT JOIN had h USING (handler, id, position, event_type)
		LEFT JOIN (SELECT handler, min(since) AS since FROM replay GROUP BY 1) r USING (handler)
		WHERE NOT t.ended AND t.source <> 'marked';
	CREATE VIEW marks AS
		SELECT id, coalesce(d.n, 0) AS n, 1 + coalesce(r.n, 0) AS wanted, d.had
		FROM marked m
		FULL JOIN (SELECT e.id, count(*) AS n, array_agg(concat_ws(' ', handler, position, e.event_type, xact)) AS had
			FROM effects e JOIN term USING (handler) WHERE source = 'marked' GROUP BY 1) d USING (id)
		LEFT JOIN (SELECT id, count(*) AS n FROM reset GROUP BY 1) r USING (id)};
}

# An event type: of the usual ones, or one that may come for the first time.
# The unknown ones move on with the time, so that all writers meet them.
sub event_type
{
	my ($progress) = @_;

	return 'T.' . between(0, 9) if chance(0.6);
	return 'N.' . (int($progress * 40) + between(0, 3));
}

sub insert
{
	my ($table, $progress) = @_;

	if (chance(0.2))
	{
		my $count = between(1, 3);
		my $of = between(0, 4);

		return qq{WITH a AS (UPDATE aggregate SET version = version + $count
		WHERE id = (SELECT id FROM aggregate WHERE source = '$table' ORDER BY id OFFSET $of LIMIT 1) RETURNING *)
	INSERT INTO $table (event_type, aggregate_type, aggregate_id, aggregate_version, data)
		SELECT 'O.' || n % 2, 'o', id, version - $count + n, '{}' FROM a, generate_series(1, $count) n;};
	}
	my $type = event_type($progress);
	my $count = chance(0.05) ? between(50, 600) : between(1, 8);

	return qq{INSERT INTO $table (event_type, aggregate_type, aggregate_id, data)
	SELECT '$type', 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, $count);};
}

# Some rows: of this transaction, or late ones of whomever.
sub some_rows
{
	my ($table) = @_;
	my $limit = between(1, 6);
	my $offset = chance(0.5) ? 0 : between(0, 40);
	my $own =
	  chance(0.4) ? 'log_position >= pg_current_xact_id()::text::bigint' : 'true';

	return qq{id IN (SELECT id FROM $table WHERE event_type NOT LIKE 'O.%' AND $own
		ORDER BY log_position DESC LIMIT $limit OFFSET $offset FOR UPDATE SKIP LOCKED)};
}

sub change
{
	my ($table, $progress) = @_;
	my $rows = some_rows($table);
	my $type = event_type($progress);
	my @changes = (
		"DELETE FROM $table WHERE $rows;",
		"DELETE FROM $table WHERE $rows;",
		"UPDATE $table SET event_type = '$type' WHERE $rows;",
		"UPDATE $table SET event_type = '$type' WHERE $rows;",
		"UPDATE $table SET event_type = event_type || 'x' WHERE $rows;\n"
		  . "UPDATE $table SET event_type = rtrim(event_type, 'x') WHERE event_type LIKE '%x' AND log_position >= pg_current_xact_id()::text::bigint;",
		"UPDATE $table SET data = '{\"changed\": true}' WHERE $rows;");

	if ($table eq 'marked')
	{
		push @changes,
		  "UPDATE marked SET processed = false WHERE processed AND $rows AND id NOT IN (SELECT id FROM excused);",
		  "UPDATE marked SET processed = false, event_type = '$type' WHERE processed AND $rows AND id NOT IN (SELECT id FROM excused);",
		  "WITH u AS (UPDATE marked SET processed = true WHERE NOT processed AND $rows RETURNING id) INSERT INTO excused SELECT id FROM u;";
	}
	else
	{
		push @changes, "UPDATE $table SET id = dbopt_uuid_v7() WHERE $rows;",
		  "UPDATE $table SET log_position = -1 WHERE $rows;";
	}
	push @changes, "UPDATE parts SET bucket = (bucket + 1) % 4 WHERE $rows;",
	  "UPDATE parts SET bucket = (bucket + 1) % 4, event_type = '$type' WHERE $rows;"
	  if $table eq 'parts';
	return pick(@changes);
}

sub statement
{
	my ($progress) = @_;
	my $table = pick(@tables);

	return chance(0.6) ? insert($table, $progress) : change($table, $progress);
}

sub statements
{
	my ($progress, $depth) = @_;
	my @statements;

	foreach my $i (1 .. between(1, 3))
	{
		if ($depth < 3 && chance(0.3))
		{
			my $end =
			  chance(0.5) ? "ROLLBACK TO s$depth;" : "RELEASE s$depth;";

			push @statements, "SAVEPOINT s$depth;",
			  statements($progress, $depth + 1), $end;
		}
		else
		{
			push @statements, statement($progress);
		}
		push @statements, sprintf('SELECT pg_sleep(%.3f); -- work', rand($haste))
		  if chance(0.3);
	}
	return @statements;
}

# A transaction, and what is left of a prepared one to be done later.
sub transaction
{
	my ($name, $progress, $longest) = @_;
	my $begin = pick(('BEGIN;') x 8, 'BEGIN ISOLATION LEVEL REPEATABLE READ;',
		'BEGIN ISOLATION LEVEL SERIALIZABLE;');
	my @done = ($begin, statements($progress, 0));

	push @done, sprintf('SELECT pg_sleep(%.3f); -- work', rand($longest))
	  if $longest > 0;
	if (chance(0.1))
	{
		return (
			[ @done, "PREPARE TRANSACTION '$name';" ],
			(chance(0.7) ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$name';");
	}
	return [ @done, chance(0.85) ? 'COMMIT;' : 'ROLLBACK;' ];
}

# What one writer does.  A writer whose transactions stay open for long does
# fewer of them.
sub writer_script
{
	my ($writer, $transactions, $longest);

	($writer, $transactions, $longest, $haste) = @_;
	my @script = ('SET deadlock_timeout = 50; SET lock_timeout = 2000;');
	my @later;

	foreach my $i (1 .. $transactions)
	{
		my ($done, $later) = transaction("w$writer-$i", $i / $transactions, $longest);

		push @script, @$done;
		push @later, $later if defined $later;
		push @script, shift @later if @later && chance(0.5);
	}
	return join "\n", @script, @later, "INSERT INTO finished VALUES ($writer);\n";
}

1;
