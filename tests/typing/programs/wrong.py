"""What must not type-check: each marked line is one mistake, and a checker must see each. Never run."""

from collections.abc import AsyncIterator

from common import (
    BatchContext,
    Call,
    CircuitBreaker,
    ConcurrencyLimit,
    Context,
    Discard,
    RateLimit,
    RetryPolicy,
    RetryRule,
    Settings,
    Snooze,
    Throttle,
    Unique,
    cron,
    every,
    exponential,
    lifespan,
    middleware,
    schedule,
    task,
)
from producer import BlockingProducer, Producer


@task
async def fetch_url(ctx: Context, url: str, *, tries: int = 1) -> str:
    return url * tries


@task
async def count(ctx: Context, n: int) -> int:
    return n


@task  # E: arg-type call-overload
async def without_a_context(url: str) -> str:
    return url


@task
def plain(ctx: Context, url: str) -> str:
    return url


@task  # E: arg-type call-overload
def plain_without_a_context(url: str) -> str:
    return url


@task(cpu="yes")  # E: arg-type call-overload untyped-decorator
def cpu_as_text(ctx: Context) -> None: ...


@task(cpu=True)  # E: arg-type call-overload
def computes_without_a_context(n: int) -> int:
    return n


plain(1)  # E: arg-type
plain()  # E: call-arg
plain.function("u")  # E: call-arg arg-type


@task  # E: arg-type call-overload
async def without_anything() -> None: ...


@task(timeout="10")  # E: arg-type call-overload untyped-decorator
async def timeout_as_text(ctx: Context) -> None: ...


@task(retries=3)  # E: call-overload untyped-decorator
async def no_such_option(ctx: Context) -> None: ...


@cron("@daily")  # E: type-var
@task
async def scheduled_without_its_argument(ctx: Context, n: int) -> None: ...


@every(5)  # E: type-var
async def scheduled_and_no_task(ctx: Context) -> None: ...


cron("@daily", missed="never")  # E: arg-type
cron(5)  # E: arg-type
every("5m")  # E: arg-type
schedule("n", fetch_url(1), every(5))  # E: arg-type
schedule("n", fetch_url, every(5))  # E: arg-type
schedule("n", fetch_url("u"), "@daily")  # E: arg-type
RetryPolicy(jitter="half")  # E: arg-type
RetryPolicy(retry_on=ValueError)  # E: arg-type
RetryPolicy(backoff=5)  # E: arg-type
RetryPolicy(rules={ValueError: "give up"})  # E: dict-item
RetryPolicy(rules={5: "fail"})  # E: dict-item
RetryRule("never")  # E: arg-type
Snooze(until=5)  # E: arg-type
Discard()
Discard(5)  # E: arg-type
exponential("1")  # E: arg-type
fetch_url(1)  # E: arg-type
fetch_url()  # E: call-arg
fetch_url("u", "v")  # E: call-arg arg-type
fetch_url("u", tries="3")  # E: arg-type
fetch_url("u", retries=3)  # E: call-arg
fetch_url(Context(), "u")  # E: call-arg arg-type


async def with_a_producer(producer: Producer) -> None:
    await producer.schedules.add("n", fetch_url(1), every(5))  # E: arg-type
    await producer.schedules.add("n", fetch_url("u"), 5)  # E: arg-type
    await producer.pause("low")  # E: call-arg misc
    await producer.resume(task=5)  # E: arg-type
    await producer.abort_where(tasks="fetch_url")  # E: call-arg
    await producer.abort_where(state=5)  # E: arg-type
    await producer.jobs(states="queued")  # E: call-arg
    await producer.jobs(task=5)  # E: arg-type
    await producer.reenqueue("id", call=fetch_url("u"), arguments={"url": "v"})  # E: call-overload
    await producer.purge()  # E: call-arg
    await producer.enqueue(fetch_url(1))  # E: arg-type
    await producer.enqueue(fetch_url)  # E: arg-type
    await producer.enqueue(fetch_url.function(Context(), "u"))  # E: arg-type
    await producer.enqueue("fetch_url")  # E: arg-type
    await producer.enqueue(fetch_url("u"), "u")  # E: arg-type
    await producer.enqueue(fetch_url("u"), delay="1")  # E: arg-type
    await producer.enqueue(fetch_url("u"), at=5)  # E: arg-type
    await producer.enqueue(fetch_url("u"), deadline="1h")  # E: arg-type
    await producer.enqueue(fetch_url("u"), max_attempts="2")  # E: arg-type
    await producer.enqueue(fetch_url("u"), delay_ms=5)  # E: call-arg
    job = await producer.enqueue(fetch_url("u"))
    number: int = await job.result()  # E: assignment
    number = await job  # E: assignment
    texts: list[str] = await producer.gather(count(1), count(2))  # E: arg-type list-item
    await producer.gather([count(1)])  # E: arg-type call-overload
    async for number in producer.map(fetch_url, [1, 2]):  # E: arg-type list-item assignment
        texts.append(str(number))
    await producer.job("a", task=count).result() + "text"  # E: operator
    call: Call[int] = fetch_url("u")  # E: assignment
    call = plain("u")  # E: assignment
    await plain.function(Context(), "u")  # E: misc
    await producer.enqueue(call)


def without_a_loop(producer: BlockingProducer) -> None:
    producer.enqueue(fetch_url(1))  # E: arg-type
    number: int = producer.enqueue(fetch_url("u")).result()  # E: assignment
    number += 1


@lifespan
async def names() -> AsyncIterator[str]:
    yield "name"


@lifespan  # E: arg-type call-overload
async def yields_nothing() -> str:
    return "name"


@lifespan  # E: arg-type call-overload
async def needs_too_much(host: str) -> AsyncIterator[str]:
    yield host


@task
async def with_resources(ctx: Context) -> None:
    size: int = ctx[names]  # E: assignment
    size = await ctx.open(names)  # E: assignment arg-type
    await ctx.open("names")  # E: arg-type
    ctx[names].no_such_method(size)  # E: attr-defined


Context(resources={"names": "fake"})  # E: dict-item


@middleware  # E: type-var
async def around_nothing(attempt: str) -> str:
    return attempt


@task(middleware=[around_nothing])  # E: list-item call-overload untyped-decorator
async def with_wrong_middleware(ctx: Context) -> None: ...


Producer(before_enqueue=[lambda call: call])  # E: list-item misc arg-type


@task
async def tells(ctx: Context) -> None:
    ctx.progress("half")  # E: arg-type
    ctx.progress(1, 2, 3)  # E: arg-type
    await ctx.progress(1)  # E: func-returns-value misc
    ctx.emit("x")  # E: unused-coroutine


async def follow(producer: Producer) -> None:
    job = await producer.enqueue(tells())
    async for item in job.stream(int):
        item.value.upper()  # E: attr-defined
    for progress in job.watch():  # E: attr-defined
        assert progress


@task(batch=10)
async def insert(ctx: BatchContext, words: list[str]) -> list[int]:
    return [len(word) for word in words]


@task(batch=10)  # E: arg-type call-overload
async def takes_one_item(ctx: BatchContext, word: str) -> list[int]:
    return [len(word)]


@task(batch=10)  # E: arg-type call-overload
async def returns_one_outcome(ctx: BatchContext, words: list[str]) -> int:
    return len(words)


@task(within=1)  # E: call-overload untyped-decorator
async def within_what(ctx: Context) -> None: ...


insert(5)  # E: arg-type
insert(["word"])  # E: arg-type
insert("word", "word")  # E: call-arg
length: str = Producer().gather(insert("word"))  # E: assignment
Unique(until="ended")  # E: arg-type
Unique("user")  # E: misc call-arg
Throttle(60, on_conflict="replace")  # E: arg-type


@task(unique="user")  # E: call-overload arg-type untyped-decorator
async def unique_by_a_word(ctx: Context, user: str) -> None: ...


RateLimit(100, 60)  # E: call-arg misc
ConcurrencyLimit("5")  # E: arg-type
CircuitBreaker(errors=OSError)  # E: arg-type


@task(limits=RateLimit(1))  # E: call-overload untyped-decorator
async def with_wrong_limits(ctx: Context) -> None: ...


Settings(leese=20)  # E: call-arg
Settings(lease="20s")  # E: arg-type
Settings().lease = 20  # E: misc
