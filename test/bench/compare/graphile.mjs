// graphile-worker with the settings that are fastest for many small jobs:
// a local queue, and completions in batches.  Runs the jobs that wait; prints
// jobs a second from the first job's start to the last job's completion in the
// database.
//
// usage: graphile.mjs JOBS PROCESSES     (this process is one of them)
import { Logger, run } from "graphile-worker";
import { fork } from "node:child_process";
import { setTimeout as nap } from "node:timers/promises";
import pg from "pg";

const [jobs, processes] = process.argv.slice(2).map(Number);
const pool = new pg.Pool({ max: 30 });
pool.on("error", () => {});
const children = [];

const start = () => run({
  preset: { worker: {
    pgPool: pool, concurrentJobs: 24, pollInterval: 50,
    localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0,
    logger: new Logger(() => () => {}),
  } },
  pgPool: pool,
  noHandleSignals: true,
  parsedCronItems: [],
  taskList: { noop: async () => {} },
});

if (process.send === undefined) {
  for (let i = 1; i < processes; i++) {
    const child = fork(process.argv[1], process.argv.slice(2));
    await new Promise((resolve) => child.once("message", resolve));
    children.push(child);
  }
  const started = performance.now();
  children.forEach((child) => child.send("go"));
  const runner = await start();
  const query = "SELECT NOT EXISTS (SELECT FROM graphile_worker._private_jobs) AS done";
  while (!(await pool.query(query)).rows[0].done) await nap(5);
  console.log(jobs / ((performance.now() - started) / 1000));
  children.forEach((child) => child.kill());
  await runner.stop();
  process.exit(0);
} else {
  process.once("message", start);
  process.send("ready");
}
