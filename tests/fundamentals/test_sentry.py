"""Sentry: the error that ends a job is reported, with what tells the job, and without its arguments."""

import asyncio
import sys

import pytest
import sentry_sdk
from sentry_sdk.transport import Transport

from common import NEVER, Context, Discard, Retry, RetryPolicy, Snooze, fixed, task
from common.errors import ConfigurationError, TaskFailed, TaskTimedOut
from common.settings import load_settings
from tests.support.log_lines import lines, until
from tests.support.running import producer
from workers.observers import observers_by
from workers.sentry import SentryErrors

__all__ = ["lines", "producer"]

SECRET = "hunter2"


class Captured(Transport):
    """What would have gone to Sentry."""

    def __init__(self):
        super().__init__({})
        self.items = []

    def capture_envelope(self, envelope):
        self.items += [(item.type, item.payload.json) for item in envelope.items]

    def of(self, kind: str) -> list[dict]:
        return [payload for type_, payload in self.items if type_ == kind]


@pytest.fixture
def sentry():
    """Set up Sentry's SDK as a host program may; leave none behind."""

    def set_up(**options) -> Captured:
        captured = Captured()
        sentry_sdk.init(
            dsn="https://key@sentry.invalid/1",
            transport=captured,
            default_integrations=False,
            auto_enabling_integrations=False,
            **options,
        )
        return captured

    yield set_up
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


@task(name="reported_fail", retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def fail(ctx: Context, customer: str) -> None:
    sentry_sdk.set_tag("tenant", "acme")
    raise ValueError("it does not work")


async def failed(job) -> None:
    with pytest.raises(TaskFailed):
        await job.result(timeout=10)


def tags_of(event: dict) -> dict:
    return {name: str(value) for name, value in event["tags"].items()}


async def test_an_error_that_ends_a_job_is_reported_once_with_its_tags(sentry, producer, run_worker):
    captured = sentry()
    await run_worker(fail)
    job = await producer.enqueue(fail(SECRET))
    await failed(job)
    await until(lambda: captured.of("event"))
    (event,) = captured.of("event")
    assert tags_of(event) == {
        "task": "reported_fail",
        "job_id": job.job_id,
        "attempt": "2",
        "queue": "arq:queue",
        "tenant": "acme",
    }
    (value,) = event["exception"]["values"]
    assert (value["type"], value["value"]) == ("ValueError", "it does not work")
    assert value["stacktrace"]["frames"][-1]["function"] == "fail"
    assert event["contexts"]["job"]["outcome"] == "failed"
    assert captured.of("transaction") == []
    assert not any("vars" in frame for frame in value["stacktrace"]["frames"])
    assert f"'{SECRET}'" not in str(captured.items)


async def test_arguments_and_variables_only_where_that_is_asked_for(sentry, producer, run_worker, monkeypatch):
    monkeypatch.setenv("BARQUE_SENTRY_ARGUMENTS", "true")
    captured = sentry()
    await run_worker(fail)
    await failed(await producer.enqueue(fail(SECRET)))
    await until(lambda: captured.of("event"))
    (event,) = captured.of("event")
    assert event["contexts"]["arguments"] == {"0": f"'{SECRET}'"}
    assert event["exception"]["values"][0]["stacktrace"]["frames"][-1]["vars"]["customer"] == f"'{SECRET}'"


async def test_retried_errors_are_reported_by_setting_as_warnings(sentry, producer, run_worker, monkeypatch):
    monkeypatch.setenv("BARQUE_SENTRY_RETRIES", "true")
    captured = sentry()
    await run_worker(fail)
    await failed(await producer.enqueue(fail(SECRET)))
    await until(lambda: len(captured.of("event")) == 2)
    assert [(event["level"], tags_of(event)["attempt"]) for event in captured.of("event")] == [
        ("warning", "1"),
        ("error", "2"),
    ]


async def test_what_is_no_error_is_not_reported(sentry, producer, run_worker):
    @task(name="reported_words")
    async def words(ctx: Context, word: str) -> str:
        if word == "discard":
            raise Discard("no need")
        if word == "snooze" and not seen:
            seen.append(word)
            raise Snooze(after=0.01)
        return word

    seen: list[str] = []
    captured = sentry(traces_sample_rate=1.0)
    await run_worker(words, fail)
    for word in ("fine", "discard", "snooze"):
        await (await producer.enqueue(words(word))).wait(timeout=10)
    await failed(await producer.enqueue(fail(SECRET)))
    await until(lambda: captured.of("event"))
    assert [tags_of(event)["task"] for event in captured.of("event")] == ["reported_fail"]


async def test_each_attempt_is_a_transaction_where_the_sdk_traces(sentry, producer, run_worker):
    captured = sentry(traces_sample_rate=1.0)
    await run_worker(fail)
    await failed(await producer.enqueue(fail(SECRET)))
    await until(lambda: captured.of("event"))
    transactions = captured.of("transaction")
    assert [found["transaction"] for found in transactions] == ["reported_fail"] * 2
    assert {found["contexts"]["trace"]["op"] for found in transactions} == {"queue.process"}
    assert {found["contexts"]["trace"]["status"] for found in transactions} == {"internal_error"}
    (event,) = captured.of("event")
    assert event["contexts"]["trace"]["trace_id"] == transactions[1]["contexts"]["trace"]["trace_id"]


async def test_a_timeout_is_reported_as_one_with_where_the_attempt_stood(sentry, producer, run_worker):
    @task(name="reported_endless", timeout=0.05, retry=NEVER)
    async def endless(ctx: Context) -> None:
        await asyncio.Event().wait()

    captured = sentry()
    await run_worker(endless)
    with pytest.raises(TaskTimedOut):
        await (await producer.enqueue(endless())).result(timeout=10)
    await until(lambda: captured.of("event"))
    value = captured.of("event")[0]["exception"]["values"][-1]
    assert (value["type"], value["value"]) == ("TimeoutError", "the attempt ran past its timeout of 0.05 s")
    assert "endless" in [frame["function"] for frame in value["stacktrace"]["frames"]]


async def test_the_cause_is_reported_of_a_retry_that_is_the_last(sentry, producer, run_worker):
    @task(name="reported_asks", retry=RetryPolicy(max_attempts=1))
    async def asks(ctx: Context) -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise Retry(after=1) from error

    captured = sentry()
    await run_worker(asks)
    await failed(await producer.enqueue(asks()))
    await until(lambda: captured.of("event"))
    assert captured.of("event")[0]["exception"]["values"][-1]["type"] == "KeyError"


async def test_a_job_that_cannot_run_is_reported_too(sentry, producer, run_worker):
    @task(name="reported_picky")
    async def picky(ctx: Context, number: int) -> None: ...

    captured = sentry()
    await run_worker(picky)
    job = await producer.enqueue(picky("no number"))
    await failed(job)
    await until(lambda: captured.of("event"))
    (event,) = captured.of("event")
    assert tags_of(event) == {"task": "reported_picky", "job_id": job.job_id, "attempt": "1", "queue": "arq:queue"}


async def test_what_fails_in_sentry_fails_no_job(sentry, producer, run_worker, lines):
    def broken(event, hint):
        raise RuntimeError("before_send")

    @task(name="reported_fine")
    async def fine(ctx: Context) -> int:
        return 7

    sentry(before_send=broken)
    await run_worker(fine, fail)
    await failed(await producer.enqueue(fail(SECRET)))
    assert await (await producer.enqueue(fine())).result(timeout=10) == 7
    await lines.of("job_failed")


async def test_without_a_dsn_and_an_sdk_that_is_set_up_there_is_none_of_it(run_worker):
    worker = await run_worker(fail)
    assert observers_by(load_settings(), []) == []
    await until(lambda: worker._engine is not None)
    assert worker._engine.executor._runnables["reported_fail"]._function is fail.function


def test_a_setting_keeps_it_off(sentry):
    sentry()
    assert [type(one) for one in observers_by(load_settings(), [])] == [SentryErrors]
    assert observers_by(load_settings(sentry=False), []) == []
    assert observers_by(load_settings(), [SentryErrors()]) == []


def test_a_dsn_sets_the_sdk_up(sentry):
    assert [type(one) for one in observers_by(load_settings(sentry_dsn="https://key@127.0.0.1:9/1"), [])] == [
        SentryErrors
    ]
    client = sentry_sdk.get_client()
    assert client.is_active()
    assert client.options["include_local_variables"] is False
    assert not client.options["send_default_pii"]
    assert not {"arq", "redis"} & client.integrations.keys()


def test_a_wrong_dsn_is_told_without_it():
    with pytest.raises(ConfigurationError, match="BARQUE_SENTRY_DSN: this is no DSN") as raised:
        observers_by(load_settings(sentry_dsn=f"https://{SECRET}"), [])
    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__


def test_an_sdk_that_is_missing_is_told_in_one_line(monkeypatch):
    monkeypatch.delitem(sys.modules, "workers.sentry", raising=False)
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'barque\[sentry\]'"):
        observers_by(load_settings(sentry_dsn="https://key@sentry.invalid/1"), [])
