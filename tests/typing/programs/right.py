"""What must type-check for users of Barque, with the types it must have. Never run; mypy reads it."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal, Self, assert_type

from opentelemetry.trace import TracerProvider

from common import (
    NEVER,
    AttemptCall,
    BatchContext,
    Call,
    CircuitBreaker,
    ConcurrencyLimit,
    Context,
    Debounce,
    Discard,
    Proceed,
    RateLimit,
    Resource,
    Resources,
    Retry,
    RetryPolicy,
    RetryRule,
    Settings,
    Snooze,
    Task,
    Throttle,
    Unique,
    cron,
    every,
    exponential,
    fixed,
    lifespan,
    linear,
    load_settings,
    middleware,
    schedule,
    task,
)
from common.errors import BarqueError
from common.jobs import JobInfo, JobState
from common.pauses import Pause
from common.progress import Item, Progress
from common.redis.limits import LimitInfo
from common.schedule_records import ScheduleInfo
from common.secret import Secret
from producer import BlockingJob, BlockingProducer, Job, Producer
from producer.aborting import Aborted
from producer.options import EnqueueOptions
from producer.tracing import EnqueueSpans
from workers import Worker
from workers.sentry import SentryErrors
from workers.tracing import AttemptSpans


class Page:
    text: str


@task
async def fetch_url(ctx: Context, url: str, *, tries: int = 1) -> Page:
    assert_type(ctx.attempt, int)
    ctx.log.info("fetched", url=url)
    if ctx.stopping:
        assert_type(ctx.stopping.why, Literal["soft_timeout", "shutdown", ""])
        assert_type(ctx.time_left, float | None)
    async with ctx.stopping.limit():
        await ctx.stopping
    raise Retry(after=timedelta(seconds=5))


@task(timeout=timedelta(seconds=10), retry=RetryPolicy(max_attempts=5, backoff=exponential(1, maximum=60)), queue="q")
async def count(ctx: Context, words: list[str]) -> int:
    return len(words)


@task(unique=Unique(key=("user", "region"), until="started", for_=timedelta(hours=1), on_conflict="replace"))
async def synced(ctx: Context, user: str, region: str) -> int:
    return len(user)


@task(unique=Debounce(5, at_most=60, key=lambda document: document))
def indexed(ctx: Context, document: str) -> None: ...


async def unique_jobs(producer: Producer, blocking: BlockingProducer) -> None:
    job = await producer.enqueue(synced("u", "r"), unique=Throttle(60, trailing=True))
    assert_type(job, Job[int])
    assert_type(job.replaced, bool)
    await producer.enqueue(indexed("d"), unique=False)
    await producer.enqueue_many([synced("u", "r")], unique=Unique(until=None, for_=5), unique_key=["u", 5])
    assert_type(blocking.enqueue(synced("u", "r"), unique_key="u").replaced, bool)


@task(priority="urgent", fair_key="customer")
async def ranked(ctx: Context, customer: str) -> None: ...


@task(name="no_arguments", retry=NEVER, keep_result=0, timeout=60, soft_timeout=50, deadline=timedelta(hours=1))
async def no_arguments(ctx: Context) -> None: ...


@task
def shrink(ctx: Context, path: str, *, to: int = 100) -> Page:
    ctx.check()
    assert_type(ctx.cancelled, bool)
    return Page()


@task(timeout=5, retry=NEVER)
def in_a_thread(ctx: Context) -> None: ...


@task(cpu=True, timeout=60)
def primes(ctx: Context, below: int) -> list[int]:
    return [below]


@every(60)
@task(cpu=True)
def computed_on_schedule(ctx: Context, below: int = 10) -> None: ...


@cron("30 6 * * mon-fri", timezone="Europe/Berlin", missed="skip", jitter=timedelta(seconds=5))
@task(timeout=5)
async def scheduled(ctx: Context, size: int = 1) -> int:
    return size


@every(timedelta(minutes=5), overlap=False)
@cron("@daily", missed="all")
@task
async def scheduled_twice(ctx: Context) -> None: ...


assert_type(scheduled(2), Call[int])
assert_type(scheduled_twice(), Call[None])
schedule("fetch-home", fetch_url("u", tries=2), every(30, jitter=1), queue="low")


async def steer(producer: Producer, blocking: BlockingProducer) -> None:
    assert_type(await producer.pause(queue="low", reason="moving the database"), Pause)
    assert_type(await producer.pause(task=fetch_url, by="ada"), Pause)
    assert_type(await producer.resume(task="fetch_url"), bool)
    assert_type(await producer.pauses(), list[Pause])
    job = await producer.enqueue(fetch_url("u"))
    assert_type(await job.reschedule(delay=timedelta(minutes=5)), datetime)
    assert_type(await job.reschedule(at=datetime.now(UTC)), datetime)
    aborted = await producer.abort_where(
        task=fetch_url, state=["queued", JobState.RUNNING], older_than=60, arguments={0: "u", "tries": 2}, dry_run=True
    )
    assert_type(aborted, Aborted)
    assert_type(blocking.abort_where(queue="low", metadata={"tenant": 7}, progress=print), Aborted)
    assert_type(blocking.pauses(), list[Pause])
    assert_type((await producer.purge("low", keep_results=False)).cancelled, int)
    again = await producer.reenqueue("id", call=fetch_url("u"), replace=True, queue="low", delay=5)
    assert_type(again.job, Job[Page])
    edited = await producer.reenqueue("id", arguments={0: "u", "tries": 2}, task=fetch_url)
    assert_type(edited.job, Job[Page])
    assert_type(blocking.reenqueue("id", call=fetch_url("u")).job, BlockingJob[Page])


async def find(producer: Producer, blocking: BlockingProducer) -> None:
    page = await producer.jobs(state=["queued", JobState.RUNNING], task=fetch_url, key="acme", limit=20)
    assert_type(page.next, str | None)
    assert_type((await producer.jobs(error="refused", cursor=page.next)).jobs, tuple[JobInfo, ...])
    assert_type(blocking.jobs(id="id", queue="low").at_end, bool)
    assert_type((await producer.job_counts(queue="low")).queued, int)


async def with_schedules(producer: Producer, blocking: BlockingProducer) -> None:
    added = await producer.schedules.add("fetch-home", fetch_url("u"), cron("@hourly"), queue="low", replace=True)
    assert_type(added, ScheduleInfo)
    assert_type(added.next_run, datetime | None)
    assert_type(await producer.schedules.list(), tuple[ScheduleInfo, ...])
    assert_type(await producer.schedules.pause("fetch-home"), bool)
    assert_type(blocking.schedules.get("fetch-home"), ScheduleInfo)
    assert_type(blocking.schedules.list(), tuple[ScheduleInfo, ...])


RetryPolicy(backoff=linear(1), retry_on=(OSError,), fail_on=(ConnectionError,), jitter="none")
RetryPolicy(backoff=fixed(timedelta(seconds=1)))
RetryPolicy(backoff=lambda attempt: attempt * 2.0)
RetryPolicy(rules={OSError: RetryRule(backoff=fixed(1), max_attempts=3), ValueError: "fail", KeyError: "ignore"})
RetryPolicy(max_time=timedelta(hours=1), heed_retry_after=False)
Snooze(timedelta(hours=1), reason="closed")
Snooze(until=datetime.now(tz=UTC))
Discard("gone")

assert_type(fetch_url("u"), Call[Page])
assert_type(fetch_url("u", tries=3), Call[Page])
assert_type(count(["a"]), Call[int])
assert_type(no_arguments(), Call[None])
assert_type(shrink("p", to=5), Call[Page])
assert_type(in_a_thread(), Call[None])
assert_type(primes(5), Call[list[int]])
assert_type(computed_on_schedule(5), Call[None])
takes_any_task: Task[..., int] = count
and_any_kind: Task[[int], list[int]] = primes


async def with_a_producer() -> None:
    async with Producer("redis://localhost", answer_within=5) as producer:
        job = await producer.enqueue(fetch_url("u"), delay=timedelta(seconds=1), job_id="a", metadata={"a": 1})
        assert_type(job, Job[Page])
        assert_type(await job, Page)
        assert_type(await job.result(timeout=5), Page)
        assert_type(await job.status(), JobState)
        assert_type(await job.info(), JobInfo)
        assert_type(await job.abort(), bool)
        assert_type(job.is_new, bool)
        await producer.enqueue(no_arguments(), at=datetime.now(tz=UTC), expires=60, queue="low", timeout=5)
        await producer.enqueue(no_arguments(), max_attempts=2, soft_timeout=4, deadline=timedelta(hours=1))
        await producer.enqueue(no_arguments(), deadline=datetime.now(tz=UTC))
        await producer.enqueue(no_arguments(), priority=9, fair_key="customer")
        await producer.enqueue_many([no_arguments()], priority="high", fair_key=17)

        jobs = await producer.enqueue_many(count([word]) for word in "abc")
        assert_type(jobs, list[Job[int]])

        assert_type(await producer.gather(count([]), count([]), timeout=5), list[int])
        assert_type(await producer.gather(count([]), return_exceptions=True), list[int | BarqueError])

        async for done in producer.as_completed([fetch_url("u"), fetch_url("v")]):
            assert_type(done, Job[Page])
        assert_type(producer.map(fetch_url, ["u", "v"]), AsyncIterator[Page])
        assert_type(producer.map(lambda n: count([str(n)]), range(3), window=5, ordered=False), AsyncIterator[int])

        assert_type(await producer.job("a", task=fetch_url).result(), Page)
        assert_type(await producer.job("a", task=shrink).result(), Page)
        assert_type(await producer.enqueue(primes(5)), Job[list[int]])
        assert_type(producer.map(primes, [5]), AsyncIterator[list[int]])
        by_name: Call[int] = Call("count", ["a"])
        assert_type(await producer.enqueue(by_name), Job[int])


def without_a_loop() -> None:
    with BlockingProducer() as producer:
        job = producer.enqueue(fetch_url("u"))
        assert_type(job, BlockingJob[Page])
        assert_type(job.result(timeout=5), Page)
        assert_type(producer.gather(count([]), count([])), list[int])
        assert_type(producer.gather(count([]), return_exceptions=True), list[int | BarqueError])
        assert_type(producer.enqueue_many([count([])]), list[BlockingJob[int]])
        assert_type(producer.map(fetch_url, ["u"]), Iterator[Page])
        for done in producer.as_completed([fetch_url("u")]):
            assert_type(done, BlockingJob[Page])


async def in_a_test_of_ones_own() -> None:
    assert_type(await count.function(Context(), ["a"]), int)
    assert_type(shrink.function(Context(), "p"), Page)
    assert_type(primes.function(Context(), 5), list[int])


@lifespan
async def pages() -> AsyncIterator[Page]:
    yield Page()


@lifespan(lazy=True, opens_within=5, closes_within=5)
async def texts(resources: Resources) -> AsyncGenerator[str]:
    assert_type(await resources.open(pages), Page)
    yield (await resources.open(pages)).text


@asynccontextmanager
async def managed() -> AsyncIterator[int]:
    yield 1


class Client:
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


assert_type(pages, Resource[Page])
assert_type(texts, Resource[str])
assert_type(lifespan(managed), Resource[int])
clients = lifespan(Client)
assert_type(clients, Resource[Client])


@task
async def with_resources(ctx: Context) -> str:
    assert_type(ctx[pages], Page)
    assert_type(ctx[clients], Client)
    assert_type(await ctx.open(texts), str)
    ctx["redis"].anything()
    return ctx[pages].text


async def with_fakes() -> None:
    assert_type(await with_resources.function(Context(resources={pages: Page(), clients: Client()})), str)


@middleware
async def timing(attempt: AttemptCall, proceed: Proceed) -> object:
    assert_type(attempt.ctx, Context)
    return await proceed()


@task(middleware=[timing])
async def timed(ctx: Context, url: str) -> int:
    return len(url)


assert_type(timed("u"), Call[int])


def traced(call: Call[object], options: EnqueueOptions) -> EnqueueOptions:
    return options.with_metadata({"trace": call.name})


Producer(before_enqueue=[traced])
BlockingProducer(before_enqueue=[traced])


@task
async def tells(ctx: Context, words: list[str]) -> int:
    ctx.progress(1)
    ctx.progress(0.5, 1.0, "half-way")
    for word in words:
        await ctx.emit(word)
    return len(words)


async def follow(producer: Producer) -> None:
    job = await producer.enqueue(tells(["a"]))
    assert_type(await job.progress(), Progress | None)
    async for progress in job.watch():
        assert_type(progress.fraction, float | None)
    async for item in job.stream(str):
        assert_type(item, Item[str])
        assert_type(item.value, str)
    async for page in job.stream(list[Page]):
        assert_type(page.value, list[Page])
    async for anything in job.stream():
        assert_type(anything.number, int)


def follow_without_a_loop(producer: BlockingProducer) -> None:
    job = producer.enqueue(tells(["a"]))
    assert_type(job.progress(), Progress | None)
    assert_type(job.watch(), Iterator[Progress])
    assert_type(job.stream(int), Iterator[Item[int]])


async def look_at_what_was_said() -> None:
    ctx = Context()
    assert_type(await tells.function(ctx, ["a"]), int)
    assert_type(ctx.progress_made, list[Progress])


@task(batch=100, within=timedelta(milliseconds=200), timeout=5)
async def insert(ctx: BatchContext, pages: list[Page]) -> list[int]:
    assert_type(ctx.jobs, tuple[Context, ...])
    assert_type(ctx[clients], Client)
    return [len(page.text) for page in pages]


@task(batch=10, fair_key="words")
async def some_fail(ctx: BatchContext, words: list[str]) -> list[int | Exception]:
    return [len(word) or ValueError("empty") for word in words]


@task(batch=10, retry=NEVER, middleware=[timing])
async def gives_nothing(ctx: BatchContext, words: list[str]) -> None: ...


assert_type(insert(Page()), Call[int])
assert_type(gives_nothing("w"), Call[None])


async def with_batches(producer: Producer) -> None:
    assert_type(await producer.enqueue(insert(Page())), Job[int])
    assert_type(await producer.gather(insert(Page()), insert(Page())), list[int])
    assert_type(producer.map(insert, [Page()]), AsyncIterator[int])
    length: int | Exception = await (await producer.enqueue(some_fail("w"))).result()
    assert_type(await insert.function(BatchContext(), [Page()]), Sequence[int | BaseException] | None)
    assert isinstance(length, int)


api = RateLimit(100, per=timedelta(minutes=1), key="url", burst=5, cost=lambda url, **_: len(url), name="api")


@task(limits=[api, ConcurrencyLimit(5, key=lambda url: url), CircuitBreaker(errors=(OSError,), open_for=5)])
async def limited(ctx: Context, url: str) -> int:
    return len(url)


@task(limits=(api,))
def limited_thread(ctx: Context, url: str) -> int:
    return len(url)


assert_type(limited("u"), Call[int])


async def with_limits(producer: Producer, blocking: BlockingProducer) -> None:
    await producer.enqueue(limited("u"), limit_key="mirror", limit_cost=0.5)
    assert_type(await producer.limits.list(), tuple[LimitInfo, ...])
    assert_type((await producer.limits.reset("api"))[0].next_free, datetime | None)
    assert_type(blocking.limits.list("api")[0].in_use, int | None)
    assert_type((await (await producer.enqueue(limited("u"))).info()).waits_for, str | None)


def with_traces(provider: TracerProvider) -> None:
    Producer(tracing=True)
    BlockingProducer(tracing=EnqueueSpans(provider, baggage=True))
    Worker([limited], middleware=[AttemptSpans(provider, parent="link"), SentryErrors(retries=True)])


def with_settings() -> None:
    assert_type(load_settings(queues="high,low").lease, float)
    made = Settings(lease=20, queues=("high", "low")).replace(threads=3)
    assert_type(made, Settings)
    assert_type((made.queues, made.redis_password), tuple[tuple[str, ...], Secret | None])
