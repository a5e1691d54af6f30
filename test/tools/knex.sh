#!/bin/bash
# Runs the migration of doc/knex with knex from npm against a throw-away server:
# up, an event that is delivered, the calls and settings that README.md maps, as
# they stand there, down, and up again; all of it as a role that is no superuser,
# with what the migration and README.md say that such a role needs.  Not part of
# make check, since it needs npm and the network.
set -euo pipefail

# shellcheck source=test/tools/server.sh
. "$(dirname "${BASH_SOURCE[0]}")/server.sh"

server_prepare
give_to_tester
server_install ''
server_start 'dbopt.environment = test'

mkdir "$work/app" "$work/app/migrations"
cp "$tree"/doc/knex/*.js "$work/app/migrations"
cp "$tree/README.md" "$work/app"
cd "$work/app"
{
	printf '%s\n' 'CREATE DATABASE app;' '\connect app'
	grep '^CREATE ROLE app ' README.md
	sed -n 's|^//   ||p' migrations/*.js
	grep '^GRANT .* TO app;' README.md
	echo 'GRANT CREATE ON SCHEMA public TO app;'
} >grants.sql
psql -X -q -v ON_ERROR_STOP=1 -f grants.sql
export PGUSER=app PGDATABASE=app

cat >knexfile.js <<'JS'
module.exports = { client: 'pg', connection: { host: process.env.PGHOST, port: process.env.PGPORT,
  user: process.env.PGUSER, database: process.env.PGDATABASE } };
JS
cat >app.js <<'JS'
const assert = require('assert');
const readme = require('fs').readFileSync('README.md', 'utf8').match(/\n## From an application\n.*?\n## /s)[0];
const config = require('./knexfile');
const knex = require('knex')(config);
const admin = require('knex')({ client: 'pg', connection: { ...config.connection, user: 'postgres' } });

// Sets what is given, and waits until the pool is as it should be.
async function set(settings, wanted) {
  for (const [name, value] of Object.entries(settings)) {
    await admin.raw(`ALTER SYSTEM SET ${name} = '${value}'`);
  }
  await admin.raw('SELECT pg_reload_conf()');
  for (let tries = 0; tries < 1000; tries++) {
    const { rows } = await knex.raw('SELECT * FROM dbopt_pool_stats()');
    if (wanted(rows[0])) return rows[0];
    await knex.raw('SELECT pg_sleep(0.01)');
  }
  throw new Error(`nothing comes of ${JSON.stringify(settings)}`);
}

async function main() {
  await knex('events').insert({ event_type: 'USER.CREATED', aggregate_type: 'user',
    aggregate_id: '00000000-0000-4000-8000-000000000001', data: { name: 'Ada' } });
  const drained = await admin.raw('SELECT dbopt_drain() AS drained');
  assert.strictEqual(drained.rows[0].drained, true);
  assert.deepStrictEqual(await knex('user_names').pluck('name'), ['Ada']);

  // What the calls of an application are here, as README.md has it
  const given = { statement: 'SELECT name FROM user_names', params: [], isolation: 'serializable',
    statements: ['UPDATE user_names SET name = upper(name)', 'SELECT name FROM user_names'] };
  const results = {};
  for (const [, call, here] of readme.matchAll(/^\| `(\w+)\(\w*\)` \| (.*) \|$/gm)) {
    results[call] = [];
    for (const [, sql] of here.matchAll(/`((?:SELECT|CALL) [^`]*)`/g)) {
      const bound = sql.replace(/\b(statements?|params|isolation)\b/g, ':$1');
      results[call].push((await knex.raw(bound, given)).rows);
    }
    assert.ok(results[call].length > 0, call);
  }
  assert.deepStrictEqual(results.withConnection, [[{ dbopt_with_connection: { name: 'Ada' } }]]);
  assert.deepStrictEqual(results.withTransaction, [[{ dbopt_with_transaction: { name: 'ADA' } }], []]);
  assert.deepStrictEqual(results.withDatabaseRetry, [[]]);
  assert.deepStrictEqual(results.testConnection, [[{ dbopt_test_connection: true }]]);
  assert.deepStrictEqual(results.resetCircuitBreaker, [[{ dbopt_reset_circuit_breaker: 1 }]]);
  for (const call of ['getConnectionStats', 'getPoolStats']) assert.strictEqual(results[call][0].length, 1);
  assert.ok(results.checkDatabaseHealth[0].find((row) => row.check_name === 'overall'));

  // And its settings
  const [, environments] = readme.match(/^\| `NODE_ENV` \| `dbopt.environment`: (.*) \|$/m);
  for (const [, environment] of environments.matchAll(/`(\w+)`/g)) {
    const pool = await set({ 'dbopt.environment': environment }, (row) => row.environment === environment);
    assert.ok(pool.max > pool.min, environment);
  }
  assert.match(readme, /^\| `DB_POOL_MIN`, `DB_POOL_MAX` \| `dbopt.pool_min`, `dbopt.pool_max` \|$/m);
  await set({ 'dbopt.pool_min': 2, 'dbopt.pool_max': 4 }, (row) => row.min === 2 && row.max === 4);
  assert.match(readme, /^\| `LOG_LEVEL` \| `dbopt.log_level` .* `log_min_messages` .*\|$/m);
  for (const level of ['debug1', 'log']) await set({ 'dbopt.log_level': level }, () => true);
}

main().then(() => Promise.all([knex.destroy(), admin.destroy()]), (error) => { console.error(error); process.exit(1); });
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
