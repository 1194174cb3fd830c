"""Enqueue jobs until told to stop, wait for each of them, and say what became of all: one JSON object on stdout.

    python load_client.py RUN JOBS_PER_SECOND SECONDS_OF_A_JOB [HOW_MANY]

It stops enqueuing when /tmp/stop is there, or after HOW_MANY. /tmp/progress has how many were enqueued and have ended.
An enqueue that the server did not answer is sent again under the same id. Results are waited for for three minutes.
"""

import asyncio
import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from load_tasks import LEDGER, compose_load

from common.errors import BarqueError, RedisUnavailable
from producer import Job, Producer

STOP = Path("/tmp/stop")
PROGRESS = Path("/tmp/progress")
PATIENCE = 180.0
TICK = 0.25


class Load:
    """The jobs of one run, and what became of them."""

    def __init__(self, producer: Producer, run: str, seconds: float) -> None:
        self._producer = producer
        self._run = run
        self._seconds = seconds
        self.enqueued = 0
        self.succeeded = 0
        self.not_answered = 0
        self.wrong: dict[int, str] = {}
        self._deadline = float("inf")

    async def feed(self, rate: float, most: int) -> None:
        """Enqueue, and wait for the results beside it."""
        async with asyncio.TaskGroup() as group:
            due = 0.0
            while not STOP.exists() and self.enqueued < most:
                due += rate * TICK
                while self.enqueued < min(due, most):
                    group.create_task(self._one(self.enqueued))
                    self.enqueued += 1
                self._show()
                await asyncio.sleep(TICK)
            self._deadline = time.monotonic() + PATIENCE
            group.create_task(self._show_until_ended())

    async def _one(self, number: int) -> None:
        job = await self._enqueue(number)
        while True:
            try:
                answer = await job.result(timeout=5)
            except TimeoutError:
                if time.monotonic() < self._deadline:
                    continue
                self.wrong[number] = f"no result: {(await job.info()).state}"
            except RedisUnavailable as error:
                if time.monotonic() < self._deadline:
                    await asyncio.sleep(TICK)
                    continue
                self.wrong[number] = f"the server is away: {error}"
            except BarqueError as error:
                self.wrong[number] = f"{type(error).__name__}: {error}"
            else:
                if answer == number:
                    self.succeeded += 1
                else:
                    self.wrong[number] = f"the result is {answer!r}"
            return

    async def _enqueue(self, number: int) -> Job[int]:
        while True:
            try:
                call = compose_load(self._run, number, self._seconds)
                return await self._producer.enqueue(call, job_id=f"{self._run}-{number}")
            except RedisUnavailable:
                self.not_answered += 1
                await asyncio.sleep(TICK)

    async def _show_until_ended(self) -> None:
        while self.succeeded + len(self.wrong) < self.enqueued:
            self._show()
            await asyncio.sleep(TICK)

    def _show(self) -> None:
        new = PROGRESS.with_suffix(".new")
        new.write_text(json.dumps({"enqueued": self.enqueued, "ended": self.succeeded + len(self.wrong)}))
        new.replace(PROGRESS)


def executions(run: str) -> dict:
    """Read the ledger: what ran where, and what more than once."""
    ends: Counter[str] = Counter()
    times: dict[int, list[list]] = defaultdict(
        list
    )  # of each job: when, where and as which attempt it began; last word
    for file in (LEDGER / run).iterdir():
        running: dict[str, list] = {}
        for line in file.read_text("utf-8").splitlines():
            at, number, attempt, word = line.split()
            if word == "begun":
                running[number] = [int(at), file.name, int(attempt), word]
                times[int(number)].append(running[number])
            running[number][-1] = word
            ends[file.name] += word == "ended"
    again = {number: [rest for _, *rest in sorted(begun)] for number, begun in times.items() if len(begun) > 1}
    return {"begun": len(times), "ended_at": dict(ends), "again": again}


async def main() -> int:
    """Run the load; return the exit status."""
    run, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    most = int(sys.argv[4]) if len(sys.argv) > 4 else 1_000_000
    async with Producer() as producer:
        load = Load(producer, run, seconds)
        await load.feed(rate, most)
    summary = {
        "enqueued": load.enqueued,
        "succeeded": load.succeeded,
        "not_answered": load.not_answered,
        "wrong": load.wrong,
    }
    print(json.dumps(summary | executions(run)))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
