"""Traces: an enqueue and its attempts are spans of one trace, by OpenTelemetry's conventions for messaging."""

import asyncio
import io
import json

import pytest
import structlog
from arq.connections import RedisSettings, create_pool
from opentelemetry import baggage, context, trace
from opentelemetry.trace import SpanKind, StatusCode

from common import NEVER, BatchContext, Context, Discard, RetryPolicy, Snooze, Unique, fixed, task
from common.errors import ConfigurationError, TaskFailed, TaskTimedOut
from common.logs import configure_logs
from common.settings import load_settings
from common.values import encode
from producer import BlockingProducer, Producer
from producer.tracing import EnqueueSpans
from tests.support.log_lines import until
from tests.support.spans import spans
from workers.tracing import AttemptSpans

__all__ = ["spans"]

SECRET = "hunter2"


@pytest.fixture
async def producer(redis_url, spans):
    async with Producer(redis_url, tracing=EnqueueSpans(spans.provider)) as opened:
        yield opened


@pytest.fixture
def run_traced(run_worker, spans):
    async def start(*functions, parent="child", **options):
        around = AttemptSpans(spans.provider, parent=parent)
        return await run_worker(*functions, middleware=[around], **options)

    return start


def events(span) -> list[str]:
    return [event.name for event in span.events]


@task(name="traced_add")
async def add(ctx: Context, one: int, other: int) -> int:
    trace.get_tracer("users").start_span("inside").end()
    return one + other


@task(name="traced_divide", retry=RetryPolicy(max_attempts=3, backoff=fixed(0)))
async def divide(ctx: Context, secret: str) -> float:
    raise ZeroDivisionError("by zero")


async def test_an_attempt_is_a_child_of_its_enqueue(producer, run_traced, spans):
    await run_traced(add)
    with spans.provider.get_tracer("users").start_as_current_span("request") as request:
        job = await producer.enqueue(add(1, 2))
    assert await job.result(timeout=10) == 3
    (process,) = await spans.attempts(1)
    (send,) = spans.sends()
    assert send.parent.span_id == request.get_span_context().span_id
    assert process.parent.span_id == send.context.span_id
    assert process.context.trace_id == send.context.trace_id == request.get_span_context().trace_id
    assert [link.context.span_id for link in process.links] == [send.context.span_id]


async def test_the_spans_say_what_the_conventions_ask_for(producer, run_traced, spans):
    await run_traced(add)
    job = await producer.enqueue(add(1, 2), queue="arq:queue")
    await job.result(timeout=10)
    (process,) = await spans.attempts(1)
    (send,) = spans.sends()
    assert (send.name, send.kind) == ("send arq:queue", SpanKind.PRODUCER)
    assert (process.name, process.kind) == ("process arq:queue", SpanKind.CONSUMER)
    both = {
        "messaging.system": "barque",
        "messaging.destination.name": "arq:queue",
        "messaging.message.id": job.job_id,
        "barque.task": "traced_add",
    }
    for span, operation in ((send, "send"), (process, "process")):
        said = dict(span.attributes)
        assert said.items() >= both.items()
        assert said["messaging.operation.type"] == said["messaging.operation.name"] == operation
        assert "messaging.batch.message_count" not in said
        assert span.status.status_code is StatusCode.UNSET
    assert "server.address" in send.attributes
    said = process.attributes
    assert (said["barque.attempt"], said["barque.max_attempts"], said["barque.outcome"]) == (1, 5, "succeeded")
    assert said["barque.queued_ms"] >= 0
    assert said["barque.busy_ms"] >= 0


async def test_by_setting_an_attempt_begins_a_trace_that_is_linked(producer, run_traced, spans):
    await run_traced(add, parent="link")
    await (await producer.enqueue(add(1, 2))).result(timeout=10)
    (process,) = await spans.attempts(1)
    (send,) = spans.sends()
    assert process.parent is None
    assert process.context.trace_id != send.context.trace_id
    assert [link.context.span_id for link in process.links] == [send.context.span_id]


async def test_each_attempt_is_a_span_of_the_same_trace(producer, run_traced, spans):
    await run_traced(divide)
    job = await producer.enqueue(divide(SECRET))
    with pytest.raises(TaskFailed):
        await job.result(timeout=10)
    attempts = await spans.attempts(3)
    (send,) = spans.sends()
    assert {span.parent.span_id for span in attempts} == {send.context.span_id}
    assert [span.attributes["barque.attempt"] for span in attempts] == [1, 2, 3]
    assert [span.attributes["barque.outcome"] for span in attempts] == ["retried", "retried", "failed"]
    assert [events(span) for span in attempts] == [["exception", "retry"]] * 2 + [["exception"]]
    for span in attempts:
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "ZeroDivisionError: by zero"
        assert span.attributes["error.type"] == "ZeroDivisionError"
        said = span.events[0].attributes
        assert (said["exception.type"], said["exception.message"]) == ("ZeroDivisionError", "by zero")
        assert "in divide" in said["exception.stacktrace"]
        assert "tracing.py" not in said["exception.stacktrace"].replace(__file__, "")
        assert SECRET not in span.to_json()


async def test_what_a_task_asks_for_is_no_error(producer, run_traced, spans):
    @task(name="traced_words")
    async def words(ctx: Context, word: str) -> None:
        if word == "snooze" and ctx.enqueued_ms and not seen:
            seen.append(1)
            raise Snooze(after=0.01)
        if word == "discard":
            raise Discard("nobody wants it")

    seen: list[int] = []
    await run_traced(words)
    await (await producer.enqueue(words("snooze"))).result(timeout=10)
    await (await producer.enqueue(words("discard"))).wait(timeout=10)
    snoozed, again, discarded = await spans.attempts(3)
    assert [span.attributes["barque.outcome"] for span in (snoozed, again, discarded)] == [
        "snoozed",
        "succeeded",
        "discarded",
    ]
    assert {span.status.status_code for span in (snoozed, again, discarded)} == {StatusCode.UNSET}
    assert events(snoozed) == ["snooze"]
    assert discarded.attributes["barque.reason"] == "nobody wants it"


async def test_a_timeout_says_where_the_attempt_stood(producer, run_traced, spans):
    @task(name="traced_endless", timeout=0.05, retry=NEVER)
    async def endless(ctx: Context) -> None:
        await asyncio.Event().wait()

    await run_traced(endless)
    with pytest.raises(TaskTimedOut):
        await (await producer.enqueue(endless())).result(timeout=10)
    (span,) = await spans.attempts(1)
    assert (span.attributes["barque.outcome"], span.attributes["error.type"]) == ("timed_out", "TimeoutError")
    assert "in endless" in span.events[0].attributes["exception.stacktrace"]


async def test_a_job_that_cannot_run_has_a_span_too(producer, run_traced, spans):
    await run_traced(add)
    job = await producer.enqueue(add("no number", 2))
    with pytest.raises(TaskFailed):
        await job.result(timeout=10)
    (span,) = await spans.attempts(1)
    assert span.parent.span_id == spans.sends()[0].context.span_id
    assert (span.attributes["barque.outcome"], span.status.status_code) == ("failed", StatusCode.ERROR)


async def test_enqueue_many_is_one_span_that_all_its_jobs_continue(producer, run_traced, spans):
    await run_traced(add)
    jobs = await producer.enqueue_many(add(n, 1) for n in range(5))
    assert await producer.gather(add(1, 1), add(2, 2), timeout=10) == [2, 4]
    for job in jobs:
        await job.result(timeout=10)
    attempts = await spans.attempts(7)
    many, gathered = spans.sends()
    assert [span.attributes["messaging.batch.message_count"] for span in (many, gathered)] == [5, 2]
    assert "messaging.message.id" not in many.attributes
    for send, count in ((many, 5), (gathered, 2)):
        theirs = [span for span in attempts if span.parent.span_id == send.context.span_id]
        assert len(theirs) == count
        assert {link.context.span_id for span in theirs for link in span.links} == {send.context.span_id}


async def test_a_run_of_a_batch_task_is_linked_to_all_its_jobs(producer, run_traced, spans):
    @task(name="traced_batch", batch=3, within=30)
    async def together(ctx: BatchContext, items: list[int]) -> list[int]:
        current.append(trace.get_current_span().get_span_context())
        return [2 * item for item in items]

    current: list = []
    await run_traced(together)
    assert await producer.gather(*(together(n) for n in range(3)), timeout=10) == [0, 2, 4]
    found = await spans.attempts(4)
    (run,) = [span for span in found if "messaging.batch.message_count" in span.attributes]
    members = [span for span in found if span is not run]
    assert run.parent is None
    assert run.attributes["messaging.batch.message_count"] == 3
    assert {link.context.span_id for link in run.links} == {span.context.span_id for span in members}
    assert [context.span_id for context in current] == [run.context.span_id]


async def test_a_job_of_a_stock_producer_begins_a_trace(redis_url, run_traced, spans):
    async def plain(ctx, number):
        return number + 1

    with spans.provider.get_tracer("users").start_as_current_span("around the worker"):
        await run_traced(plain)
    pool = await create_pool(RedisSettings.from_dsn(redis_url), job_serializer=encode, job_deserializer=lambda raw: {})
    try:
        await pool.enqueue_job(plain.__qualname__, 1)
    finally:
        await pool.aclose()
    (span,) = await spans.attempts(1)
    assert (span.parent, span.links) == (None, ())
    assert span.attributes["barque.task"].endswith("plain")


async def test_an_enqueue_that_fails_says_so(producer, spans):
    with pytest.raises(ConfigurationError):
        await producer.enqueue(add(1, 2), job_id="no good id")
    (send,) = spans.sends()
    assert send.status.status_code is StatusCode.ERROR
    assert send.attributes["error.type"] == "common.errors.ConfigurationError"


async def test_a_job_that_is_there_already_is_told(producer, run_traced, spans):
    for _ in range(2):
        await producer.enqueue(add(1, 2), job_id="once", delay=0.01)
    assert ["barque.already_there" in span.attributes for span in spans.sends()] == [False, True]
    await run_traced(add)
    await spans.attempts(1)


async def test_unique_and_signed_jobs_carry_it_too(redis_url, run_worker, spans, monkeypatch):
    @task(name="traced_unique", unique=Unique(for_=60))
    async def once(ctx: Context) -> str:
        return format(trace.get_current_span().get_span_context().trace_id, "032x")

    monkeypatch.setenv("BARQUE_SIGNING_KEYS", f"one:{SECRET * 8}")
    await run_worker(once, middleware=[AttemptSpans(spans.provider)])
    async with Producer(redis_url, tracing=EnqueueSpans(spans.provider)) as producer:
        trace_id = await (await producer.enqueue(once())).result(timeout=10)
        await producer.enqueue(once())
    first, second = spans.sends()
    assert format(first.context.trace_id, "032x") == trace_id
    assert second.attributes["barque.already_there"] == 1


async def test_the_synchronous_producer_continues_its_callers_trace(redis_url, run_traced, spans):
    await run_traced(add)

    def program() -> int:
        with (
            BlockingProducer(redis_url, tracing=EnqueueSpans(spans.provider)) as producer,
            spans.provider.get_tracer("users").start_as_current_span("request"),
        ):
            return producer.enqueue(add(1, 2)).result(timeout=10)

    assert await asyncio.to_thread(program) == 3
    (process,) = await spans.attempts(1)
    (send,), (request,) = spans.sends(), spans.named("request")
    assert send.parent.span_id == request.context.span_id
    assert process.parent.span_id == send.context.span_id


@pytest.mark.parametrize("travels", [True, False])
async def test_baggage_travels_where_that_is_asked_for(redis_url, run_worker, spans, travels):
    @task(name=f"traced_baggage_{travels}".lower())
    async def packed(ctx: Context) -> str | None:
        return baggage.get_baggage("customer")

    await run_worker(packed, middleware=[AttemptSpans(spans.provider, baggage=travels)])
    token = context.attach(baggage.set_baggage("customer", "ann"))
    try:
        async with Producer(redis_url, tracing=EnqueueSpans(spans.provider, baggage=travels)) as producer:
            job = await producer.enqueue(packed())
            assert await job.result(timeout=10) == ("ann" if travels else None)
    finally:
        context.detach(token)


async def test_every_line_of_an_attempt_carries_the_ids_of_its_span(producer, run_traced, spans):
    @task(name="traced_talks")
    async def talks(ctx: Context) -> None:
        ctx.log.info("talking")

    stream = io.BytesIO()
    configure_logs(load_settings(log_format="json"), stream)
    await run_traced(talks)
    await (await producer.enqueue(talks())).result(timeout=10)
    await until(lambda: b"job_succeeded" in stream.getvalue())
    (span,) = await spans.attempts(1)
    lines = {line["event"]: line for line in map(json.loads, stream.getvalue().splitlines())}
    ids = (format(span.context.trace_id, "032x"), format(span.context.span_id, "016x"))
    for event in ("talking", "job_succeeded"):
        assert (lines[event]["trace_id"], lines[event]["span_id"]) == ids


async def test_tracing_that_fails_fails_no_job(redis_url, run_worker):
    class Broken:
        def get_tracer(self, *_, **__):
            return self

        def start_span(self, *_, **__):
            raise RuntimeError("no spans today")

    await run_worker(add, middleware=[AttemptSpans(Broken())])
    async with Producer(redis_url, tracing=EnqueueSpans(Broken())) as producer:
        assert await (await producer.enqueue(add(1, 2))).result(timeout=10) == 3
        assert await producer.gather(add(1, 2), timeout=10) == [3]


async def test_variables_of_the_log_travel_by_setting(redis_url, run_worker, monkeypatch):
    monkeypatch.setenv("BARQUE_LOG_CONTEXT", "request_id,tenant")

    @task(name="logging_task")
    async def talks(ctx: Context) -> None:
        ctx.log.info("talking")

    stream = io.BytesIO()
    configure_logs(load_settings(log_format="json"), stream)
    await run_worker(talks)
    async with Producer(redis_url) as producer:
        with structlog.contextvars.bound_contextvars(request_id="r-1", tenant=7, password=SECRET):
            job = await producer.enqueue(talks())
        await job.result(timeout=10)
    await until(lambda: b"job_succeeded" in stream.getvalue())
    lines = {line["event"]: line for line in map(json.loads, stream.getvalue().splitlines())}
    for event in ("talking", "job_succeeded"):
        assert (lines[event]["request_id"], lines[event]["tenant"]) == ("r-1", 7)
    assert SECRET.encode() not in stream.getvalue()


async def test_who_does_not_use_it_has_nothing_of_it(redis_url, run_worker):
    worker = await run_worker(add)
    async with Producer(redis_url) as producer:
        assert await (await producer.enqueue(add(1, 2))).result(timeout=10) == 3
        assert type(producer._binder).__name__ == "Binder"
    runnable = worker._engine.executor._runnables["traced_add"]
    assert runnable._function is add.function
    assert type(worker._engine._log).__name__ == "AttemptLog"
