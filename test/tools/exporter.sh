#!/bin/bash
# Tries doc/monitoring/ with prometheus-postgres-exporter and promtool.
#
# usage: exporter.sh
#
# For check.sh, which has put both programs into PATH and runs a server with
# dbopt; without them everything is skipped.  Prints TAP.
set -uo pipefail

passed=0 failed=0
work=$(mktemp -d)
exporter_pid='' port=''
export PGDATABASE=exporter

cleanup() {
	[ -z "$exporter_pid" ] || kill "$exporter_pid"
	rm -rf "$work"
}
trap cleanup EXIT

# result NAME STATUS: of the command before it.
result() {
	if [ "$2" = 0 ]; then
		passed=$((passed + 1))
		echo "ok $((passed + failed)) - $1"
	else
		failed=$((failed + 1))
		echo "not ok $((passed + failed)) - $1"
	fi
}

# The exporter's page; waits until it answers, or has ended.
scrape() {
	perl -MHTTP::Tiny -e '
		foreach (1 .. 600)
		{
			my $page = HTTP::Tiny->new->get($ARGV[0]);
			print($page->{content}), exit 0 if $page->{success};
			exit 1 unless kill 0, $ARGV[1];
			select undef, undef, undef, 0.1; # until the condition holds
		}
		exit 1' "http://127.0.0.1:$port/metrics" "$exporter_pid"
}

# names FILE: of the metrics in a page.
names() {
	sed -n 's/^\([a-zA-Z_:][a-zA-Z0-9_:]*\)[{ ].*/\1/p' "$1" | sort -u
}

# types FILE: of dbopt's metrics.
types() {
	grep -E '^# TYPE (database|circuit)_' "$1" | sort
}

# samples FILE: those of dbopt, without the exporter's own label, as
# "name{labels}"; le as a number has one form.
samples() {
	perl -ne 'next unless /^((?:database|circuit)_\w+)\{(.*)\} /;
		my ($name, $labels, %label) = ($1, $2);
		while ($labels =~ /(\w+)="((?:[^"\\]|\\.)*)"/g)
		{
			$label{$1} = $2;
		}
		delete $label{server};
		$label{le} += 0 if ($label{le} // "") =~ /^\d/;
		print $name, "{", join(",", map { "$_=$label{$_}" } sort keys %label), "}\n"' "$1" | sort
}

# dashboard_names: of the metrics that the dashboard asks for.
dashboard_names() {
	perl -MJSON::PP -0777 -ne '
		my $dashboard = decode_json($_);
		foreach my $panel (@{ $dashboard->{panels} }, @{ $dashboard->{templating}{list} })
		{
			foreach my $text (map({ $_->{expr} } @{ $panel->{targets} || [] }), $panel->{query} || ())
			{
				print "$1\n" while $text =~ /\b((?:database|circuit|dbopt)_\w+)/g;
			}
		}' doc/monitoring/grafana-dashboard.json | sort -u
}

# dashboard_labels: "metric label" for each label that a query of the dashboard
# chooses, sums or shows by.
dashboard_labels() {
	perl -MJSON::PP -0777 -ne '
		foreach my $panel (@{ decode_json($_)->{panels} })
		{
			foreach my $target (@{ $panel->{targets} })
			{
				my ($metric, $chosen) = $target->{expr} =~ /\b((?:database|circuit|dbopt)_\w+)(?:\{(.*?)\})?/;
				my @labels = ($chosen // "") =~ /(\w+) *[!=]/g;
				push @labels, ($target->{legendFormat} // "") =~ /\{\{(\w+)\}\}/g;
				push @labels, map { split /, */ } $target->{expr} =~ /\bby \((.*?)\)/g;
				print "$metric $_\n" foreach @labels;
			}
		}' doc/monitoring/grafana-dashboard.json | sort -u
}

# labels FILE: "metric label" for each label of the metrics in a page.
labels() {
	perl -ne 'next unless /^(\w+)\{(.*)\} /;
		my ($name, $labels) = ($1, $2);
		print "$name $1\n" while $labels =~ /(\w+)="(?:[^"\\]|\\.)*"/g' "$1" | sort -u
}

# Ids that are unique, places that do not overlap and stay within the 24
# columns, and one source of data, which is the variable.
check_dashboard() {
	perl -MJSON::PP -0777 -ne '
		my $dashboard = decode_json($_);
		my (%ids, %taken, @wrong);
		my @variables = map { $_->{name} } grep { $_->{type} eq "datasource" } @{ $dashboard->{templating}{list} };
		push @wrong, "variables" if "@variables" ne "datasource";
		foreach my $panel (@{ $dashboard->{panels} })
		{
			my $place = $panel->{gridPos};
			my $id = $panel->{id} // "none";

			push @wrong, "id $id" if $id !~ /^[1-9]\d*$/ || $ids{$id}++;
			push @wrong, "title of $id" unless length($panel->{title} // "");
			push @wrong, "place of $id" if $place->{x} < 0 || $place->{w} < 1 || $place->{h} < 1 || $place->{x} + $place->{w} > 24;
			foreach my $x ($place->{x} .. $place->{x} + $place->{w} - 1)
			{
				foreach my $y ($place->{y} .. $place->{y} + $place->{h} - 1)
				{
					push @wrong, "$id overlaps" if $taken{"$x $y"}++;
				}
			}
			push @wrong, "queries of $id" unless @{ $panel->{targets} || [] };
			foreach my $part ($panel, @{ $panel->{targets} || [] })
			{
				my $source = $part->{datasource} || {};
				push @wrong, "source of $id" if ($source->{type} // "") ne "prometheus" || ($source->{uid} // "") ne "\${datasource}";
			}
		}
		print STDERR "# $_\n" foreach @wrong;
		exit(@wrong || !%ids ? 1 : 0)' doc/monitoring/grafana-dashboard.json
}

create_database() {
	psql -X -q -v ON_ERROR_STOP=1 -d postgres -c 'CREATE DATABASE exporter' -c 'CREATE ROLE exporter LOGIN IN ROLE pg_monitor' &&
		psql -X -q -v ON_ERROR_STOP=1 <<-'SQL'
		CREATE EXTENSION dbopt CASCADE;
		SELECT dbopt_create_events('events', mark_processed => false);
		CREATE FUNCTION work(events) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			IF $1.event_type = 'BAD' THEN
				RAISE EXCEPTION 'bad' USING ERRCODE = 'data_exception';
			END IF;
		END $$;
		SELECT dbopt_register_handler('good', 'GOOD', 'work(events)'),
			dbopt_register_handler('a "bad" one', 'BAD', 'work(events)');
		INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
			SELECT CASE WHEN n > 90 THEN 'BAD' ELSE 'GOOD' END, 'a', gen_random_uuid(), '{}' FROM generate_series(1, 100) n;
		SELECT dbopt_drain();
		SELECT dbopt_with_connection('SELECT 1');
	SQL
}

# A port that nobody listens on.
free_port() {
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'
}

# Another program can take the port in between: then once more.
start_exporter() {
	local try

	for try in 1 2 3; do
		port=$(free_port)
		DATA_SOURCE_NAME="host=$PGHOST port=$PGPORT user=exporter dbname=exporter sslmode=disable" \
			prometheus-postgres-exporter --web.listen-address="127.0.0.1:$port" \
			--extend.query-path=doc/monitoring/postgres_exporter.yaml \
			--disable-default-metrics --disable-settings-metrics >"$work/log" 2>&1 &
		exporter_pid=$!
		scrape >"$work/page" && return
		grep -q 'address already in use' "$work/log" || break
		echo "# port $port was taken (try $try)"
	done
	return 1
}

if ! command -v prometheus-postgres-exporter >/dev/null || ! command -v promtool >/dev/null; then
	echo "1..0 # SKIP prometheus-postgres-exporter and promtool are not here, and could not be downloaded"
	exit 0
fi
create_database >&2 || exit 1
start_exporter
result "the exporter answers" $?
psql -X -A -t -c 'SELECT dbopt_prometheus()' >"$work/text"
kill "$exporter_pid"
wait "$exporter_pid" 2>/dev/null
exporter_pid=''

! grep -iE 'level=(error|warn)' "$work/log" | grep -viE 'pg_stat_bgwriter|settings' >&2
result "the exporter complains of nothing" $?

promtool check metrics <"$work/text" >&2
result "promtool is content with dbopt_prometheus()" $?
grep -E '^(# (HELP|TYPE) )?(database|circuit|dbopt)_' "$work/page" | promtool check metrics >&2
result "promtool is content with the exporter's page" $?

diff <(types "$work/text") <(types "$work/page") >&2
result "the exporter has the same metrics as dbopt_prometheus(), of the same types" $?
[ "$(samples "$work/text" | wc -l)" -gt 50 ] && diff <(samples "$work/text") <(samples "$work/page") >&2
result "the exporter has the same names and labels as dbopt_prometheus()" $?
grep -q '^database_retry_success_total{.*handler="good".*} 90$' "$work/page" &&
	grep -q '^database_retry_dead_letter_total{.*handler="a \\"bad\\" one".*} 10$' "$work/page" &&
	grep -q '^database_operation_duration_count{.*handler="good".*} 90$' "$work/page"
result "its figures are right" $?
grep -q '^dbopt_health_status{.*check_name="dead_letters".*} 1$' "$work/page" &&
	grep -q '^dbopt_backlog_dead{.*handler="a \\"bad\\" one".*} 10$' "$work/page"
result "health and backlog are there, for a member of pg_monitor" $?

[ -n "$(dashboard_names)" ] && ! comm -23 <(dashboard_names) <(names "$work/page") | grep . >&2
result "every metric of the dashboard exists" $?
[ -n "$(dashboard_labels)" ] && ! comm -23 <(dashboard_labels) <(labels "$work/page") | grep . >&2
result "and has the labels that the dashboard uses" $?
check_dashboard
result "the dashboard's panels have ids, places and a source" $?

if [ $failed != 0 ]; then
	tail -n 20 "$work/log" >&2
fi
echo "1..$((passed + failed))"
[ $failed = 0 ]
