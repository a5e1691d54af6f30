// pg-boss, fetching and completing jobs in batches of 1,000.  Runs the jobs that
// wait; prints jobs a second.
//
// usage: pgboss.mjs JOBS PROCESSES     (this process is one of them)
import { PgBoss } from "pg-boss";
import { fork } from "node:child_process";

const [jobs, processes] = process.argv.slice(2).map(Number);
const queue = "noop";
const handler = async () => {};
const boss = new PgBoss({ host: process.env.PGHOST, port: Number(process.env.PGPORT), user: process.env.PGUSER,
  database: process.env.PGDATABASE, supervise: false, schedule: false });
boss.on("error", (error) => { console.error(error); process.exit(1); });

const work = async () => {
  for (;;) {
    const batch = await boss.fetch(queue, { batchSize: 1000 });
    if (batch.length === 0) return;
    for (const job of batch) await handler(job);
    await boss.complete(queue, batch.map((job) => job.id));
  }
};

await boss.start();
if (process.send === undefined) {
  const children = [];
  await boss.createQueue(queue);
  for (let i = 0; i < jobs; i += 1000)
    await boss.insert(queue, Array.from({ length: 1000 }, (_, n) => ({ data: { n: i + n } })));
  for (let i = 1; i < processes; i++) {
    const child = fork(process.argv[1], process.argv.slice(2));
    await new Promise((resolve) => child.once("message", resolve));
    children.push(child);
  }
  const started = performance.now();
  const others = children.map((child) => new Promise((resolve) => {
    child.once("message", resolve);
    child.send("go");
  }));
  await Promise.all([work(), ...others]);
  console.log(jobs / ((performance.now() - started) / 1000));
  children.forEach((child) => child.kill());
  process.exit(0);
} else {
  process.once("message", async () => { await work(); process.send("done"); });
  process.send("ready");
}
