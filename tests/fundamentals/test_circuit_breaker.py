"""A circuit breaker stops starting jobs while too many fail: they wait instead, and a few try again after a time."""

import asyncio

import pytest
import structlog

from common import NEVER, CircuitBreaker, Context, Retry, RetryPolicy, fixed, task
from common.errors import ConfigurationError, TaskFailed
from tests.support.fleet import ran, start_workers

__all__ = ["start_workers"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "test:*", "barque:worker*", "*:health-check")


class Service:
    """What the tasks call: down or up, and what it was asked."""

    def __init__(self) -> None:
        self.down = True
        self.error: BaseException = ConnectionError("down")
        self.asked: list[str] = []

    def call(self, name: str) -> str:
        self.asked.append(name)
        if self.down:
            raise self.error
        return name


service = Service()


@pytest.fixture(autouse=True)
def service_is_down():
    service.__init__()


@pytest.fixture
def events():
    with structlog.testing.capture_logs() as lines:
        yield lambda: [line["event"] for line in lines if line["event"].startswith("circuit")]


@task(retry=NEVER, limits=[CircuitBreaker(minimum=4, open_for=3600)])
async def call(ctx: Context, name: str) -> str:
    return service.call(name)


@task(retry=NEVER, limits=[CircuitBreaker(minimum=2, open_for=0.2, open_at_most=0.2)])
async def recovers(ctx: Context, name: str) -> str:
    return service.call(name)


@task(retry=NEVER, limits=[CircuitBreaker(minimum=2, open_for=3600, key="host")])
async def of_a_host(ctx: Context, host: str) -> str:
    return service.call(host)


async def fails(job) -> None:
    with pytest.raises(TaskFailed):
        await job.result(timeout=10)


async def state(producer, wanted: str, name: str = "", key: str | None = None) -> None:
    async with asyncio.timeout(10):
        while not any(
            limit.state == wanted and (key is None or limit.key == key)
            for limit in await producer.limits.list(name or None)
        ):
            await asyncio.sleep(0.01)


async def waits(job) -> str:
    async with asyncio.timeout(10):
        while (limit := (await job.info()).waits_for) is None:
            await asyncio.sleep(0.01)
    return limit


async def opened(producer, task_, *, failures: int, key: str | None = None) -> None:
    for _ in range(failures):
        await fails(await producer.enqueue(task_(key or "opens it")))
    await state(producer, "open", task_.name, key)


async def test_it_opens_when_too_many_fail_and_jobs_wait_instead(producer, run_worker, events):
    await run_worker(call)
    await opened(producer, call, failures=4)
    job = await producer.enqueue(call("waits"))
    assert await waits(job) == "breaker:call"
    assert "waits" not in service.asked
    (limit,) = await producer.limits.list("call")
    assert (limit.state, limit.waiting, limit.in_use) == ("open", 1, 0)
    assert limit.next_free is not None
    assert events() == ["circuit_opened"]
    assert await job.abort()


async def test_below_the_minimum_and_the_threshold_it_stays_closed(producer, run_worker):
    @task(name="mostly_well", retry=NEVER, limits=[CircuitBreaker(minimum=4, threshold=0.75, open_for=3600)])
    async def mostly_well(ctx: Context, name: str) -> str:
        if name == "good":
            return name
        return service.call(name)

    await run_worker(mostly_well)
    for _ in range(3):
        await fails(await producer.enqueue(mostly_well("bad")))
    for name in ("good", "good"):
        assert await (await producer.enqueue(mostly_well(name))).result(timeout=10) == name
    await fails(await producer.enqueue(mostly_well("bad")))  # 4 of 6
    (limit,) = await producer.limits.list("mostly_well")
    assert limit.state == "closed"


async def test_a_trial_that_succeeds_closes_it_and_lets_the_others_go(producer, run_worker, events):
    await run_worker(recovers)
    await opened(producer, recovers, failures=2)
    service.down = False
    jobs = [await producer.enqueue(recovers(str(n))) for n in range(30)]
    assert [await job.result(timeout=20) for job in jobs] == [str(n) for n in range(30)]
    assert service.asked[2] == "0", "the first that waited is the one that tries"
    assert events() == ["circuit_opened", "circuit_half_open", "circuit_closed"]


async def test_a_trial_that_fails_opens_it_again_and_costs_one_job(producer, run_worker, events):
    await run_worker(recovers)
    await opened(producer, recovers, failures=2)
    jobs = [await producer.enqueue(recovers(str(n))) for n in range(3)]
    await fails(jobs[0])
    service.down = False
    for job in jobs[1:]:
        await job.wait(timeout=10)
    assert events()[:3] == ["circuit_opened", "circuit_half_open", "circuit_opened"]
    assert events()[-1] == "circuit_closed"


async def test_jobs_that_are_retried_wait_for_it_without_losing_attempts(producer, run_worker):
    @task(
        name="patient",
        retry=RetryPolicy(max_attempts=30, backoff=fixed(0.01), jitter="none"),
        limits=[CircuitBreaker(minimum=3, open_for=0.1, open_at_most=0.1)],
    )
    async def patient(ctx: Context, name: str) -> int:
        service.call(name)
        return ctx.attempt

    await run_worker(patient)
    jobs = [await producer.enqueue(patient(str(n))) for n in range(10)]
    async with asyncio.timeout(20):
        while len(service.asked) < 15:
            await asyncio.sleep(0.01)
    service.down = False
    assert all([1 <= await job.result(timeout=20) < 30 for job in jobs])


async def test_each_key_has_a_breaker_of_its_own(producer, run_worker):
    await run_worker(of_a_host)
    await opened(producer, of_a_host, failures=2, key="broken")
    service.down = False
    waiting = await producer.enqueue(of_a_host("broken"))
    await waits(waiting)
    assert await (await producer.enqueue(of_a_host("well"))).result(timeout=10) == "well"
    await waiting.abort()


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (ConnectionError("down"), True),
        (KeyError("not there"), False),
        (BrokenPipeError("ignored"), False),
        (Retry(after=0.001), False),
    ],
)
async def test_which_errors_count_is_said_by_their_classes(producer, run_worker, error, counted):
    @task(
        name="choosy",
        retry=RetryPolicy(max_attempts=2),
        limits=[CircuitBreaker(minimum=2, open_for=3600, errors=(OSError,), ignore=(BrokenPipeError,))],
    )
    async def choosy(ctx: Context, name: str) -> None:
        if ctx.attempt == 1:
            raise error

    @task(name="marks_the_end")
    async def marks_the_end(ctx: Context) -> None: ...

    await run_worker(choosy, marks_the_end)
    jobs = [await producer.enqueue(choosy(str(n))) for n in range(2)]
    if counted:
        await state(producer, "open", "choosy")
        for job in jobs:
            await job.abort()
    else:
        for job in jobs:
            await job.result(timeout=10)
        assert (await producer.limits.list("choosy"))[0].state == "closed"


async def test_a_timeout_counts(producer, run_worker):
    @task(name="slow", timeout=0.01, retry=NEVER, limits=[CircuitBreaker(minimum=2, open_for=3600)])
    async def slow(ctx: Context, name: str) -> None:
        await asyncio.Event().wait()

    await run_worker(slow)
    await opened(producer, slow, failures=2)


async def test_it_can_be_closed_by_hand(producer, run_worker):
    await run_worker(call)
    await opened(producer, call, failures=4)
    jobs = [await producer.enqueue(call(str(n))) for n in range(3)]
    for job in jobs:
        await waits(job)
    service.down = False
    (before,) = await producer.limits.reset("call")
    assert before.state == "open"
    assert [await job.result(timeout=10) for job in jobs] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0}, {"threshold": 1.1}, {"minimum": 0}, {"trials": True}, {"window": 0}, {"open_for": -1},
        {"open_for": 60, "open_at_most": 30}, {"errors": [OSError]}, {"ignore": (3,)}, {"key": 5},
    ],
)  # fmt: skip
def test_a_breaker_that_makes_no_sense_says_so_at_once(options):
    with pytest.raises(ConfigurationError, match=f"CircuitBreaker.*{next(iter(options))}="):
        CircuitBreaker(**options)


FLEET = """
@task(limits=[CircuitBreaker(minimum=5, open_for=0.3, open_at_most=0.3)], retry=RetryPolicy(backoff=fixed(0.01)))
async def call(ctx: Context, number: int) -> None:
    await note(ctx, "start", number)
    if not await ctx["redis"].exists("test:up"):
        raise ConnectionError("down")
"""


async def test_on_a_whole_fleet_it_opens_once_and_only_trials_start_meanwhile(producer, start_workers, redis, tmp_path):
    from common import Call

    await start_workers(2, FLEET, concurrency=5, max_attempts=1000)
    jobs = await producer.enqueue_many([Call("call", n) for n in range(50)])
    async with asyncio.timeout(60):
        while (tmp_path / "workers.log").read_text().count('"circuit_opened"') < 4:
            await asyncio.sleep(0.05)
    # What was under way when it opened, and then one trial each time: two workers would else have tried thousands.
    assert len(await ran(redis)) < 60
    await redis.set("test:up", 1)
    for job in jobs:
        await job.result(timeout=60)
    log = (tmp_path / "workers.log").read_text()
    assert log.count('"circuit_closed"') == 1
    assert log.count('"circuit_half_open"') == log.count('"circuit_opened"')
