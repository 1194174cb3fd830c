// BullMQ with its defaults; `send` as the first argument enqueues one job.
import { appendFileSync, readFileSync } from 'node:fs';
import { Queue, Worker } from 'bullmq';

const url = new URL(process.env.DEATHS_REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), db: Number(url.pathname.slice(1)), maxRetriesPerRequest: null };
const log = process.env.DEATHS_LOG;

if (process.argv[2] === 'send') {
  const queue = new Queue('deaths', { connection });
  await queue.add('hang', {});
  await queue.close();
} else {
  new Worker('deaths', async () => {
    appendFileSync(log, `${Number(process.hrtime.bigint()) / 1e9}\n`);
    if (readFileSync(log, 'utf8').trim().split('\n').length === 1) {
      await new Promise((resolve) => setTimeout(resolve, 7_200_000));
    }
  }, { connection }).on('error', (error) => console.error(error));
}
