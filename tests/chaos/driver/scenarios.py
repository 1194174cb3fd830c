"""What goes wrong: one coroutine a scenario, each on a trial that has a server and nothing else.

Owns what is done, in which order, and how large the short and the long form are. What is promised is the same in all
of them, and verdict.py holds it: nothing lost, nothing run twice without cause.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sized
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.chaos.driver.processes import Process
from tests.chaos.driver.proxy import Proxy
from tests.chaos.driver.trial import TAKES_LEASE, Plan, Progress, Trial
from tests.chaos.driver.verdict import Verdict

__all__ = ["SCENARIOS", "Scenario", "run_scenario"]

# Short: some hundred jobs under leases of a second and a half; long: what `make chaos` does.
SHORT = Plan(jobs=300, per_second=150, rounds=1, lease=1.5, block_limit=1, longest=0.1, slots=20, patience=40, seed=1)
LONG = Plan(jobs=10_000, per_second=500, rounds=5, lease=5, block_limit=5, longest=0.2, slots=100, patience=180, seed=1)


async def killed_workers(trial: Trial) -> None:
    """SIGKILL random workers among four under load."""
    for _ in range(4):
        trial.start_worker()
    await trial.ready()
    await trial.start_load()
    for number in range(trial.plan.rounds):
        await trial.progressed(number)
        trial.kill(await trial.struck_next())
        trial.start_worker()


async def frozen_workers(trial: Trial) -> None:
    """SIGSTOP a worker past its lease, and SIGCONT it when others have its jobs."""
    for _ in range(3):
        trial.start_worker()
    await trial.ready()
    await trial.start_load()
    for number in range(trial.plan.rounds):
        await trial.progressed(number)
        worker = await trial.struck_next("linger")
        fault = trial.fault("frozen past its lease", worker, least=trial.plan.lease * TAKES_LEASE)
        worker.freeze()
        trial.look()
        await trial.taken_over(trial.oracle.in_hand(worker.label), worker)
        worker.thaw()
        trial.over(fault, after=trial.plan.lease)
        # Awake again, it learns that it was fenced, lets go, and goes on with other jobs.
        await _works_again(trial, worker)


async def killed_server(trial: Trial) -> None:
    """SIGKILL the server under load and start it again with its append-only file."""
    for _ in range(3):
        trial.start_worker()
    await trial.ready()
    await trial.start_load()
    for number in range(trial.plan.rounds):
        await trial.progressed(number)
        fault = trial.fault("server killed")
        await asyncio.to_thread(trial.server.kill)
        await asyncio.to_thread(trial.server.start)
        fault.recovers_from = time.monotonic()
        trial.over(fault, after=trial.plan.lease)


async def cut_network(trial: Trial) -> None:
    """Cut one worker off from the server past its lease: by broken connections, or by silence."""
    proxies = {}
    for _ in range(3):
        proxy = await trial.enter(Proxy(trial.server.port))
        worker = trial.start_worker(url=f"redis://127.0.0.1:{proxy.port}/0")
        proxies[worker.label] = proxy
    await trial.ready()
    await trial.start_load()
    for number in range(trial.plan.rounds * 2):
        await trial.progressed(number // 2)
        worker = await trial.struck_next()
        proxy, breaks = proxies[worker.label], number % 2 == 0
        what = "cut off past its lease" if breaks else "unanswered past its lease"
        fault = trial.fault(what, worker, least=trial.plan.lease * TAKES_LEASE)
        if breaks:
            proxy.cut()
        else:
            proxy.go_deaf()
        await _last(trial, trial.plan.lease * 1.3)
        proxy.heal()
        trial.over(fault, after=trial.plan.lease)
        await _works_again(trial, worker)


async def slow_network(trial: Trial) -> None:
    """Put every worker behind a slow network: nothing is late enough to be taken over."""
    for number in range(3):
        proxy = await trial.enter(Proxy(trial.server.port, seed=trial.plan.seed + number))
        proxy.delay = 0.05
        trial.start_worker(url=f"redis://127.0.0.1:{proxy.port}/0")
    await trial.ready()
    await trial.start_load(share=0.6)  # what such a network carries on a slow machine, too
    fault = trial.fault("bytes slow by 50 to 75 ms", least=math.inf)  # explains no second run
    await trial.progressed(trial.plan.rounds)
    trial.over(fault)


async def blocked_loops(trial: Trial) -> None:
    """Block event loops: for less than the limit, which costs nothing, and past it, which costs the leases."""
    for _ in range(3):
        trial.start_worker()
    await trial.ready()
    limit, lease = trial.plan.block_limit, trial.plan.lease
    await trial.start_load(fail_once=0.0, delayed=0.0)
    for number in range(trial.plan.rounds):
        await trial.progressed(number)
        for seconds in (limit * 0.6, limit + lease * 1.5 + 1):
            known = len(trial.oracle.blocked)
            job_id = await trial.enqueue("block", seconds)
            await trial.until(partial(_more, trial.oracle.blocked, known), "a task to block")
            label = trial.oracle.blocked[-1][0]
            await trial.until(partial(trial.oracle.done.__contains__, job_id), "the blocking job to be done")
            await _works_again(trial, next(worker for worker in trial.workers if worker.label == label))


async def skewed_clocks(trial: Trial) -> None:
    """Set the clocks of workers and producers wrong, by seconds and by hours, ahead and behind."""
    for skew in (-7200.0, -2.0, 2.0, 7200.0):
        trial.start_worker(skew=skew)
    await trial.ready()
    await trial.start_load(share=0.4, skew=3600.0)
    await trial.start_load(share=0.4, skew=-3600.0)
    # arq's own producer stamps due times by its own clock: ahead, its jobs wait as long.
    await trial.start_load(share=0.2, engine="arq", delayed=0.0, skew=min(1.0, trial.plan.lease / 2))
    fault = trial.fault("clock wrong by up to 2 h", least=math.inf)  # explains no second run
    await trial.progressed(trial.plan.rounds)
    trial.over(fault)


async def rolling_deploy(trial: Trial) -> None:
    """Replace the workers of one version by those of the next, one by one, under load."""
    for _ in range(3):
        trial.start_worker()
    await trial.ready()
    await trial.start_load()
    old = list(trial.workers)
    newcomers = None
    for number, worker in enumerate(old):
        wanted = trial.plan.jobs * (number + 1) // (len(old) + 2)
        await trial.until(partial(_more, trial.oracle.done, wanted), "the load to go on")
        await trial.ready(trial.start_worker(tasks="tests.chaos.driver.tasks_next"))
        # What only the new version knows comes with its first worker, and the old ones meet it too.
        newcomers = newcomers or await trial.start_load(share=0.3, task="newcomer")
        await trial.stop(worker)
    assert newcomers is not None
    await trial.until(lambda: any(job.startswith(newcomers.label) for job in trial.oracle.done), "a new task to run")


async def mixed_fleet(trial: Trial) -> None:
    """Run stock arq's workers and Barque's on one queue, fed by both producers; kill the one, stop the other."""
    for _ in range(2):
        trial.start_worker()
        trial.start_stock_worker()
    await trial.ready()
    await trial.start_load(share=0.5)
    await trial.start_load(share=0.5, engine="arq")
    for number in range(trial.plan.rounds):
        await trial.progressed(number)
        struck = await trial.struck_next()
        await _strike(trial, struck)
        kind = "worker" if _is_stock(struck) else "stock"
        await _strike(trial, await trial.busy([worker for worker in trial.workers if worker.label.startswith(kind)]))


async def _last(trial: Trial, seconds: float) -> None:
    """Let so much time go by: how long an outage lasts is the fault itself, and no event tells its end."""
    over = time.monotonic() + seconds
    await trial.until(lambda: time.monotonic() >= over, "the outage to last", patience=seconds + trial.plan.patience)


def _is_stock(worker: Process) -> bool:
    return worker.label.startswith("stock")


async def _strike(trial: Trial, worker: Process) -> None:
    """Kill a worker of Barque's, stop one of stock arq's; a new one of its kind takes its place."""
    if _is_stock(worker):
        await trial.stop(worker)
        trial.start_stock_worker()
    else:
        trial.kill(worker)
        trial.start_worker()


def _more(found: Sized, known: int) -> bool:
    return len(found) > known


async def _works_again(trial: Trial, worker: Process) -> None:
    """Wait until a worker begins new jobs, and ends one of them well."""
    moment = time.monotonic()
    await trial.until(lambda: trial.oracle.last_done.get(worker.label, 0.0) > moment, f"{worker.label} to work again")


Body = Callable[[Trial], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing that may happen, in its short form and its long one."""

    body: Body
    short: Plan
    long: Plan

    @property
    def name(self) -> str:
        """What it is called on the command line and in the verdict."""
        return self.body.__name__

    @property
    def about(self) -> str:
        """What is done, in a line."""
        return (self.body.__doc__ or "").splitlines()[0]


_ALL = (
    # 10 s is the lease that workers have by default.
    Scenario(killed_workers, SHORT, replace(LONG, jobs=100_000, per_second=1000, rounds=20, lease=10)),
    Scenario(frozen_workers, SHORT, replace(LONG, lease=10)),
    Scenario(killed_server, SHORT, LONG),
    Scenario(cut_network, SHORT, replace(LONG, rounds=3)),
    Scenario(slow_network, SHORT, LONG),
    Scenario(blocked_loops, SHORT, replace(LONG, rounds=3)),
    Scenario(skewed_clocks, SHORT, LONG),
    Scenario(rolling_deploy, SHORT, LONG),
    Scenario(mixed_fleet, SHORT, LONG),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}


async def run_scenario(name: str, plan: Plan, *, progress: Progress, binary: Path | None = None) -> Verdict:
    """Run a scenario on a server and processes of its own, and judge.

    Args:
        progress: called some times a second.
        binary: the server to run, instead of the embedded one.

    Raises:
        ChaosError: it could not be brought to its end: what it waited for did not come, or a worker died.
    """
    async with Trial(name, plan, progress=progress, binary=binary) as trial:
        await SCENARIOS[name].body(trial)
        return await trial.settle()
