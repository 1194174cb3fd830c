// BullMQ's worker, as its documentation writes one.
import { Worker } from 'bullmq';
import { begin, end, pickedUp } from './counting.mjs';
import { connection } from './surroundings.mjs';

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const bodies = {
  noop: async (job) => {
    begin();
    end();
    return job.data;
  },
  nap: async (job) => {
    begin();
    await sleep(10);
    end();
    return job.data;
  },
  stamp: async (job) => {
    pickedUp(job.data);
    begin();
    end();
  },
};

const worker = new Worker('bench', (job) => bodies[job.name](job), {
  connection,
  concurrency: Number(process.env.BENCH_CONCURRENCY ?? 100),
});
worker.on('error', (error) => console.error(error));
process.on('SIGTERM', () => worker.close().then(() => process.exit(0)));
