// Count jobs, and take the time of the first and the last: what counting.py does, for Node.
import { renameSync, writeFileSync } from 'node:fs';

const expect = Number(process.env.BENCH_EXPECT ?? 0);
const marks = process.env.BENCH_MARKS ?? 'marks.json';

// hrtime reads the monotonic clock, the same one Python's time.monotonic_ns() reads.
export const now = () => process.hrtime.bigint();

let begun = 0;
let ended = 0;
let began = 0n;
let cpu;
const latencies = [];

function write(path, content) {
  writeFileSync(`${path}.unfinished`, JSON.stringify(content));
  renameSync(`${path}.unfinished`, path);
}

export function begin() {
  if (begun === 0) {
    began = now();
    cpu = process.cpuUsage();
    write(`${marks}.first`, { pid: process.pid });
  }
  begun += 1;
}

export function end() {
  ended += 1;
  if (ended !== expect) return;
  const endedAt = now();
  const used = process.cpuUsage(cpu);
  write(marks, {
    began_ns: Number(began),
    ended_ns: Number(endedAt),
    cpu_ns: (used.user + used.system) * 1000,
    jobs: expect,
    latencies_ns: latencies,
  });
}

export function pickedUp(sent) {
  latencies.push(Number(now() - BigInt(sent)));
}
