"""One scenario under way: its server, its processes, the faults done to them, and the oracle.

Owns the words scenarios are written in: start, load, wait, kill, freeze, settle. Whatever was started is ended when
the trial is left, however it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from common import Call
from common.embedded import EmbeddedServer
from producer import Producer
from tests.chaos.driver.ledger import Ledger
from tests.chaos.driver.load import Load
from tests.chaos.driver.oracle import Oracle
from tests.chaos.driver.outcomes import Server
from tests.chaos.driver.processes import Process, arq_command, module_command
from tests.chaos.driver.stalls import ServerWatch
from tests.chaos.driver.starvation import SERVER, BusyMachine
from tests.chaos.driver.verdict import Fault, Outcome, Verdict, judge

__all__ = ["TAKES_LEASE", "ChaosError", "Plan", "Progress", "Trial"]

T = TypeVar("T")

TAKES_LEASE = 0.5
"""Share of a lease that a worker must have been out of reach for its jobs to be given to others."""

_LOOK_EVERY = 0.02


class ChaosError(Exception):
    """The trial itself could not go on: this says nothing about jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large a trial is.

    Attributes:
        jobs: acknowledged and done, at least.
        per_second: enqueues, of all producers.
        rounds: how often the fault is done.
        lease: seconds.
        block_limit: seconds a task may block, for the scenario that does.
        longest: seconds of the longest job.
        slots: jobs at once in a worker.
        patience: seconds to wait for any one thing before the trial is given up.
        seed: decides whatever is left to chance.
    """

    jobs: int
    per_second: float
    rounds: int
    lease: float
    block_limit: float
    longest: float
    slots: int
    patience: float
    seed: int


class LogLine(msgspec.Struct, frozen=True):
    """What is read of a worker's log line."""

    job_id: str


Progress = Callable[[Oracle, list[Fault]], None]
"""Called some times a second with what is known."""


class Trial:
    """A server, workers, producers, and what is done to them.

    Args:
        binary: the server to run, instead of the embedded one.

    Attributes:
        faults: what was done so far.
        problems: what went wrong that is no job's.
    """

    def __init__(self, name: str, plan: Plan, *, progress: Progress, binary: Path | None = None) -> None:
        self.name = name
        self.plan = plan
        self.chance = random.Random(plan.seed)
        self.faults: list[Fault] = []
        self.problems: list[str] = []
        self.workers: list[Process] = []
        self.loads: list[Process] = []
        self._progress = progress
        self._began = time.monotonic()
        self._folder = Path(tempfile.mkdtemp(prefix="barque-chaos-"))
        (self._folder / "server").mkdir()
        self.oracle = Oracle(self._folder)
        # What is acknowledged is on the disk, so that a server that is killed forgets nothing of it.
        self.server = EmbeddedServer(self._folder / "server", binary=binary, config={"appendfsync": "always"})
        self._processes: list[Process] = []
        self._machine = BusyMachine(self.faults, least=plan.lease * TAKES_LEASE)
        self._numbers: dict[str, int] = {}
        self._own: tuple[Producer, Ledger] | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self.server.start)
            await self.enter(ServerWatch(self.server.port, self._machine.server_stood_still))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            for process in self._processes:
                process.end()
            await self._stack.aclose()
        finally:
            self.server.kill()
            shutil.rmtree(self._folder, ignore_errors=True)

    # --- starting

    async def enter(self, manager: contextlib.AbstractAsyncContextManager[T]) -> T:
        """Enter a context that ends with the trial."""
        return await self._stack.enter_async_context(manager)

    def start_worker(
        self, *, url: str | None = None, tasks: str = "tests.chaos.driver.tasks", skew: float = 0.0
    ) -> Process:
        """Start a worker as a person would, with `arq workers.WorkerSettings`."""
        label = self._label("worker")
        settings = {
            "BARQUE_REDIS_URL": url or self.server.url,
            "BARQUE_TASKS": tasks,
            "BARQUE_LEASE": str(self.plan.lease),
            "BARQUE_BLOCK_LIMIT": str(self.plan.block_limit),
            "BARQUE_CONCURRENCY": str(self.plan.slots),
            "BARQUE_SHUTDOWN_GRACE": "1",
            "BARQUE_LOG_FORMAT": "json",
            "BARQUE_LOG_FILE": str(self._folder / f"{label}.jsonl"),
        }
        return self._start_worker(label, arq_command("workers.WorkerSettings"), settings, skew)

    def start_stock_worker(self) -> Process:
        """Start a worker of stock arq."""
        slots, timeout = str(self.plan.slots), str(round(10 + 3 * self.plan.lease))
        command = module_command("tests.chaos.driver.stock", self.server.url, slots, timeout)
        return self._start_worker(self._label("stock"), command, {}, 0.0)

    async def start_load(self, *, share: float = 1.0, skew: float = 0.0, **options: object) -> Process:
        """Start a producer with this share of the plan's pace; it goes on until the trial settles.

        With the first one come some jobs that take longer than a lease: they need it renewed.
        """
        if not self.loads:
            for _ in range(2 * len(self.workers)):
                await self.enqueue("work", 2 * self.plan.lease)
        label = self._label("producer")
        load = Load(
            url=self.server.url,
            prefix=label,
            per_second=self.plan.per_second * share,
            seed=self.chance.randrange(2**31),
            longest=self.plan.longest,
        )
        load = msgspec.structs.replace(load, **options)
        command = module_command("tests.chaos.driver.load", msgspec.json.encode(load).decode())
        process = Process(label, command, folder=self._folder, settings={}, skew=skew)
        self._processes.append(process)
        self.loads.append(process)
        return process

    async def enqueue(self, task: str, *arguments: float) -> str:
        """Enqueue one job more, acknowledged when this returns, and return its id."""
        job_id = f"{self._label(task)}-of-the-driver"
        producer, ledger = await self._own_producer()
        sent = time.monotonic()
        call: Call[object] = Call(task, *arguments)
        await producer.enqueue(call, job_id=job_id)
        ledger.write("a", job_id, f"{sent:.6f}", 0)
        return job_id

    async def _own_producer(self) -> tuple[Producer, Ledger]:
        if self._own is None:
            self._own = await self.enter(Producer(self.server.url)), Ledger(self._folder / "driver.ledger")
        return self._own

    async def ready(self, *processes: Process) -> None:
        """Wait until these processes, or all there are, said that they are at work."""
        for process in processes or (*self.workers, *self.loads):
            await self.until(partial(self._is_ready, process), f"{process.label} to be ready")

    # --- waiting

    async def until(self, happened: Callable[[], bool], what: str, *, patience: float | None = None) -> None:
        """Wait for what the oracle, or a process, shows.

        Raises:
            ChaosError: it did not come in time, or a process has died meanwhile.
        """
        limit = time.monotonic() + (self.plan.patience if patience is None else patience)
        while True:
            self.look()
            if happened():
                return
            if time.monotonic() > limit:
                raise ChaosError(f"{self.name}: waited for {what}, in vain; {self._where_it_stands()}")
            await asyncio.sleep(_LOOK_EVERY)

    def look(self) -> None:
        """Read the ledgers, and see how the processes are."""
        self.oracle.read()
        self._machine.look(self._running())
        self._progress(self.oracle, self.faults)
        for process in self._processes:
            if process.died:
                raise ChaosError(
                    f"{self.name}: {process.label} ended by itself, code {process.exit_code}; its last words:\n"
                    f"{process.last_words()}\n{self._last_lines(process)}"
                )

    async def progressed(self, number: int) -> None:
        """Wait until so many parts of rounds + 1 of the jobs are done."""
        wanted = self.plan.jobs * (number + 1) // (self.plan.rounds + 1)
        await self.until(lambda: len(self.oracle.done) >= wanted, f"{wanted:,} jobs to be done")

    async def struck_next(self, task: str = "hold") -> Process:
        """Return a worker that has a job in hand which it will not end: whatever strikes it strikes that job."""
        job_id = await self.enqueue(task)
        await self.until(lambda: job_id in self.oracle.jobs and bool(self.oracle.jobs[job_id].runs), "a job to be held")
        label = self.oracle.jobs[job_id].runs[-1].worker
        return next(worker for worker in self.workers if worker.label == label)

    async def busy(self, workers: list[Process]) -> Process:
        """Return one of these workers, at random, that has jobs in hand now."""
        order = self.chance.sample(workers, len(workers))
        await self.until(lambda: any(self.oracle.in_hand(worker.label) for worker in order), "a worker to be busy")
        return next(worker for worker in order if self.oracle.in_hand(worker.label))

    async def taken_over(self, jobs: list[str], worker: Process) -> None:
        """Wait until each of these jobs, which this worker had in hand, is done or has begun elsewhere."""

        def all_are() -> bool:
            return all(job in self.oracle.done or self.oracle.jobs[job].runs[-1].worker != worker.label for job in jobs)

        await self.until(all_are, f"{len(jobs)} jobs of {worker.label} to be taken over")

    # --- faults

    def fault(self, what: str, worker: Process | None = None, *, least: float = 0.0) -> Fault:
        """Note that something is being done now, until `over` says otherwise."""
        made = Fault(what, worker.label if worker is not None else None, time.monotonic(), least=least)
        self.faults.append(made)
        return made

    def over(self, fault: Fault, *, after: float = 0.0) -> None:
        """Note that it is over, but for so many seconds of consequences."""
        fault.ended = time.monotonic() + after

    def kill(self, worker: Process) -> None:
        """SIGKILL a worker."""
        self.fault("killed", worker)
        worker.kill()
        self.workers.remove(worker)

    async def stop(self, worker: Process) -> None:
        """SIGTERM a worker and wait for its end, which must be orderly."""
        self.fault("stopped by SIGTERM", worker)
        await self._ask_to_stop(worker)
        self.workers.remove(worker)
        await self._orderly_end(worker)

    # --- ending

    async def settle(self) -> Verdict:
        """End the load, wait until all is done, stop the workers in order, and judge."""
        plan, oracle = self.plan, self.oracle
        await self.until(lambda: len(oracle.done) >= plan.jobs, f"{plan.jobs:,} jobs to be done", patience=600)
        for load in self.loads:
            load.end_input()
        for load in self.loads:
            await self._orderly_end(load)
        server = Server(self.server.url)
        try:
            # What is lost is the verdict's to say; so waiting in vain is no error here.
            with contextlib.suppress(ChaosError):
                while oracle.pending or server.waiting():
                    await self._some_more_done(server)
            outcomes, leftovers = server.outcomes(list(oracle.jobs)), server.leftovers()
        finally:
            server.close()
        for worker in list(self.workers):
            await self._ask_to_stop(worker)
        for worker in self.workers:
            await self._orderly_end(worker)
        self.look()
        return self._judge(outcomes, leftovers)

    async def _some_more_done(self, server: Server) -> None:
        """Wait for one more job to be done: a slow machine loses none, it only takes longer."""
        done, waiting = len(self.oracle.done), server.waiting()
        await self.until(
            lambda: len(self.oracle.done) > done or server.waiting() < waiting,
            "the jobs that are left to be done",
        )

    def _judge(self, outcomes: Mapping[str, Outcome], leftovers: list[str]) -> Verdict:
        # Awake again, such a worker may still begin what it had claimed before.
        blocked = [
            Fault("blocked past the limit", worker, began, ended + self.plan.lease, least=self.plan.block_limit)
            for worker, began, ended in self.oracle.blocked
            if ended - began > self.plan.block_limit
        ]
        return judge(
            self.name,
            self.oracle,
            sorted([*self.faults, *blocked], key=lambda fault: fault.began),
            outcomes,
            ended=self._ended(),
            leftovers=leftovers,
            problems=self.problems,
            seconds=time.monotonic() - self._began,
        )

    def _ended(self) -> Counter[str]:
        """Return how often each job was brought to success, by the logs of Barque's workers."""
        ended: Counter[str] = Counter()
        for log in self._folder.glob("*.jsonl"):
            for line in log.read_bytes().splitlines():
                if b'"job_succeeded"' in line and line.endswith(b"}"):  # the last one of a worker that was killed
                    ended[msgspec.json.decode(line, type=LogLine).job_id] += 1
        return ended

    async def _ask_to_stop(self, worker: Process) -> None:
        """Send SIGTERM once it is heard: a Python that still imports its modules dies of it, as any program would."""
        with contextlib.suppress(ChaosError):  # one that never starts is told of by its end
            await self.until(lambda: self._is_ready(worker) or worker.exit_code is not None, f"{worker.label} to start")
        worker.ask_to_stop()

    async def _orderly_end(self, process: Process) -> None:
        try:
            await self.until(lambda: process.exit_code is not None, f"{process.label} to end")
        except ChaosError as error:
            self.problems.append(str(error))
            return
        # Stock arq's close() raises when a job is cancelled as it begins: how it leaves is not ours to judge.
        if process.exit_code != 0 and not process.label.startswith("stock"):
            self.problems.append(f"{process.label} ended with code {process.exit_code}:\n{process.last_words()}")

    # --- within

    def _label(self, kind: str) -> str:
        self._numbers[kind] = self._numbers.get(kind, 0) + 1
        return f"{kind}{self._numbers[kind]}"

    def _start_worker(self, label: str, command: list[str], settings: dict[str, str], skew: float) -> Process:
        worker = Process(label, command, folder=self._folder, settings=settings, skew=skew)
        self._processes.append(worker)
        self.workers.append(worker)
        return worker

    def _is_ready(self, process: Process) -> bool:
        log = self._folder / f"{process.label}.jsonl"
        return process.label in self.oracle.ready or (log.exists() and b'"worker_started"' in log.read_bytes())

    def _running(self) -> dict[str, int]:
        return {process.label: process.pid for process in self._processes if process.exit_code is None} | (
            {SERVER: self.server.pid} if self.server.running else {}
        )

    def _where_it_stands(self) -> str:
        oracle = self.oracle
        waiting = ", ".join(sorted(oracle.pending)[:5])
        return f"{oracle.acknowledged:,} acknowledged, {len(oracle.done):,} done; not done: {waiting or 'none'}"

    def _last_lines(self, process: Process) -> str:
        log = self._folder / f"{process.label}.jsonl"
        lines = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
        return "\n".join(f"  {line[:500]}" for line in lines)
