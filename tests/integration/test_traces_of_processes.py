"""Traces that begin in one process and go on in another, with nothing but settings."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
import structlog

from common.tasks import Call
from producer import Producer
from producer.tracing import EnqueueSpans
from tests.support.spans import spans

__all__ = ["spans"]

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:worker*", "*:health-check", "barque:schedule*")

TASKS = """
import pathlib
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from common import Context, RetryPolicy, every, fixed, task

class ToFile(SpanExporter):
    def export(self, spans):
        with pathlib.Path("spans.jsonl").open("a") as file:
            file.writelines(span.to_json(indent=None) + "\\n" for span in spans)
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ToFile()))
trace.set_tracer_provider(provider)

@task(name="flaky", retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def flaky(ctx: Context) -> str:
    ctx.log.info("at_work")
    if ctx.attempt == 1:
        raise ValueError("not yet")
    return "done"

@task(name="threaded")
def threaded(ctx: Context) -> None:
    ctx.log.info("in_a_thread")

@task(name="computed", cpu=True)
def computed(ctx: Context) -> None:
    ctx.log.info("in_a_process")

@every(1)
@task(name="ticking")
async def ticking(ctx: Context) -> None: ...
"""

COMMANDS = {
    "barque worker": ("-m", "cli", "worker"),
    "arq workers.WorkerSettings": ("-m", "arq", "workers.WorkerSettings"),
}


@pytest.fixture(params=COMMANDS)
async def worker(request, tmp_path, redis_url):
    """Run a worker process; return its folder, where spans and lines are written."""
    (tmp_path / "their_tasks.py").write_text(TASKS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BARQUE_", "OTEL_"))}
    settings = {
        "BARQUE_REDIS_URL": redis_url,
        "BARQUE_TASKS": "their_tasks",
        "BARQUE_TRACES": "true",
        "BARQUE_LOG_CONTEXT": "request_id",
        "BARQUE_LOG_FORMAT": "json",
        "BARQUE_LOG_FILE": str(tmp_path / "log.jsonl"),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *COMMANDS[request.param],
        cwd=tmp_path,
        env=kept | settings | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        stderr=asyncio.subprocess.DEVNULL,
    )
    yield tmp_path
    if process.returncode is None:
        process.kill()
    await process.wait()


def read(file: Path) -> list[dict]:
    # The last line may be half written.
    return [json.loads(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []


async def until_there(find):
    async with asyncio.timeout(90):
        while not (found := find()):
            await asyncio.sleep(0.02)
    return found


async def test_a_trace_goes_on_in_the_workers_process(worker, redis_url, spans, monkeypatch):
    monkeypatch.setenv("BARQUE_LOG_CONTEXT", "request_id")
    async with Producer(redis_url, tracing=EnqueueSpans(spans.provider)) as producer:
        with structlog.contextvars.bound_contextvars(request_id="r-7"):
            jobs = [await producer.enqueue(Call(name)) for name in ("flaky", "threaded", "computed")]
        for job in jobs:
            await job.result(timeout=90)
    sends = spans.sends()
    ids = {format(send.context.trace_id, "032x"): format(send.context.span_id, "016x") for send in sends}

    def processed() -> list[dict]:
        found = [span for span in read(worker / "spans.jsonl") if span["context"]["trace_id"][2:] in ids]
        return found if len(found) >= 4 else []

    found = await until_there(processed)
    for span in found:
        assert span["parent_id"][2:] == ids[span["context"]["trace_id"][2:]]
    flaky = [span for span in found if span["attributes"]["barque.task"] == "flaky"]
    assert [span["attributes"]["barque.outcome"] for span in flaky] == ["retried", "succeeded"]

    tasks = {"in_a_thread": "threaded", "in_a_process": "computed", "at_work": "flaky", "job_retried": "flaky"}

    def logged() -> list[dict]:
        lines = [line for line in read(worker / "log.jsonl") if line["event"] in tasks]
        return lines if {line["event"] for line in lines} == tasks.keys() else []

    theirs = {span["context"]["span_id"][2:]: span for span in found}
    for line in await until_there(logged):
        span = theirs[line["span_id"]]
        assert (line["task"], line["request_id"]) == (tasks[line["event"]], "r-7")
        assert line["trace_id"] == span["context"]["trace_id"][2:]
        assert span["attributes"]["messaging.message.id"] == line["job_id"]


async def test_a_tick_is_the_root_of_its_trace(worker):
    def ticked() -> list[dict]:
        found = [span for span in read(worker / "spans.jsonl") if span["attributes"]["barque.task"] == "ticking"]
        return found if len(found) >= 2 else []

    one, other, *_ = await until_there(ticked)
    assert one["parent_id"] is other["parent_id"] is None
    assert one["context"]["trace_id"] != other["context"]["trace_id"]
