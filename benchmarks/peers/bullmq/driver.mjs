// The enqueuing side of BullMQ; the commands are those of driver.py.
import { createInterface } from 'node:readline';
import { Queue, QueueEvents } from 'bullmq';
import { now } from './counting.mjs';
import { connection } from './surroundings.mjs';

const AT_ONCE = 10_000;
const queue = new Queue('bench', { connection });
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const seconds = (began) => Number(now() - began) / 1e9;

const commands = {
  async bulk({ task, jobs }) {
    const began = now();
    for (let start = 0; start < jobs; start += AT_ONCE) {
      const count = Math.min(AT_ONCE, jobs - start);
      await queue.addBulk(Array.from({ length: count }, (_, index) => ({ name: task, data: start + index })));
    }
    return { seconds: seconds(began) };
  },

  async single({ task, jobs, in_flight: inFlight }) {
    let next = 0;
    const keepOn = async () => {
      while (next < jobs) await queue.add(task, next++);
    };
    const began = now();
    await Promise.all(Array.from({ length: inFlight }, keepOn));
    return { seconds: seconds(began) };
  },

  async paced({ jobs, rate }) {
    const began = now();
    for (let number = 0; number < jobs; number += 1) {
      await sleep(Math.max(0, (number / rate - seconds(began)) * 1000));
      // Nanoseconds of the monotonic clock do not fit a double exactly; as text they travel whole.
      await queue.add('stamp', now().toString());
    }
    return { seconds: seconds(began) };
  },

  async round_trip({ jobs, pause, most_seconds: mostSeconds }) {
    const latencies = [];
    // Only here: whoever reads the events makes the server send all of them.
    const events = new QueueEvents('bench', { connection });
    await events.waitUntilReady();
    const start = now();
    for (let number = 0; number < jobs && seconds(start) < mostSeconds; number += 1) {
      await sleep(pause * 1000);
      const began = now();
      const job = await queue.add('noop', number);
      const value = await job.waitUntilFinished(events, 10_000);
      latencies.push(Number(now() - began));
      if (value !== number) throw new Error(`the result of job ${number} is ${value}`);
    }
    await events.close();
    return { latencies_ns: latencies };
  },
};

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

await queue.waitUntilReady();
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...command } = JSON.parse(line);
  say(await commands[name](command).catch((error) => ({ error: String(error) })));
}
await queue.close();
process.exit(0);
