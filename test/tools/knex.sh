#!/bin/bash
# Runs the migration of doc/knex with knex from npm against a throw-away server:
# up, an event that is delivered, the calls that README.md maps, down, and up
# again.  Not part of make check, since it needs npm and the network.
set -euo pipefail

# shellcheck source=test/tools/server.sh
. "$(dirname "${BASH_SOURCE[0]}")/server.sh"

server_prepare
give_to_tester
server_install ''
server_start 'dbopt.pool_max = 3'

mkdir "$work/app" "$work/app/migrations"
cp "$tree"/doc/knex/*.js "$work/app/migrations"
cd "$work/app"
cat >knexfile.js <<'JS'
module.exports = { client: 'pg', connection: { host: process.env.PGHOST, port: process.env.PGPORT,
  user: process.env.PGUSER, database: process.env.PGDATABASE } };
JS
cat >app.js <<'JS'
const assert = require('assert');
const knex = require('knex')(require('./knexfile'));

async function main() {
  await knex('events').insert({ event_type: 'USER.CREATED', aggregate_type: 'user',
    aggregate_id: '00000000-0000-4000-8000-000000000001', data: { name: 'Ada' } });
  const drained = await knex.raw('SELECT dbopt_drain() AS drained');
  assert.strictEqual(drained.rows[0].drained, true);
  assert.deepStrictEqual(await knex('user_names').pluck('name'), ['Ada']);

  // withConnection and withTransaction
  const one = await knex.raw('SELECT * FROM dbopt_with_connection(?, ?) AS x (row)',
    ['SELECT name FROM user_names WHERE name = $1', ['Ada']]);
  assert.deepStrictEqual(one.rows, [{ row: { name: 'Ada' } }]);
  const two = await knex.raw('SELECT * FROM dbopt_with_transaction(?) AS x (row)',
    [['UPDATE user_names SET name = upper(name)', 'SELECT name FROM user_names']]);
  assert.deepStrictEqual(two.rows, [{ row: { name: 'ADA' } }]);

  // What reports
  for (const name of ['dbopt_pool_stats', 'dbopt_connection_stats', 'dbopt_health']) {
    const { rows } = await knex.raw(`SELECT * FROM ${name}()`);
    assert.ok(rows.length > 0, name);
  }
  const reset = await knex.raw("SELECT dbopt_reset_circuit_breaker('database') AS n");
  assert.strictEqual(reset.rows[0].n, 1);
}

main().then(() => knex.destroy(), (error) => { console.error(error); process.exit(1); });
JS
npm init -y >/dev/null
npm install --no-audit --no-fund --silent knex pg
npx knex migrate:latest
node app.js
npx knex migrate:rollback
[ "$(psql -X -A -t -c "SELECT to_regclass('events') IS NULL")" = t ]
npx knex migrate:latest
node app.js
echo "knex: the migration goes up, works, goes down, and up again"
