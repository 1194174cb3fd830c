"""`barque abort` and `barque reschedule` as programs, against a real server."""

import asyncio

import pytest

from common import Call, Context, task
from producer import Producer
from tests.integration.test_cli import barque, run
from tests.support.running import run_worker

__all__ = ["barque", "run", "run_worker"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "arq:job:*", "arq:queue", "barque:wake:*")

signals: dict[str, asyncio.Event] = {}


@task(name="cli_hold")
async def hold(ctx: Context, customer: int) -> None:
    signals["running"].set()
    await asyncio.Event().wait()


async def test_jobs_are_aborted_by_their_ids(run, run_worker, redis_url):
    signals["running"] = asyncio.Event()
    async with Producer(redis_url) as producer:
        waiting = await producer.enqueue(hold(1), job_id="waiting", queue="aside", delay=3600)
        runs = await producer.enqueue(hold(2), job_id="runs", queue="cli-queue")
        await run_worker(hold, queues=("cli-queue",))
        async with asyncio.timeout(60):
            await signals["running"].wait()
        ended = await run("abort", "runs", "waiting", "no-such-job", "--json", BARQUE_QUEUES="cli-queue,aside")
        assert ended.code == 1
        assert ended.document == [
            {"job_id": "runs", "state": "cancelled"},
            {"job_id": "waiting", "state": "cancelled"},
            {"job_id": "no-such-job", "state": "unknown"},
        ]
        assert [(await job.status()).value for job in (runs, waiting)] == ["cancelled", "cancelled"]
        again = await run("abort", "waiting")
        assert again.code == 0
        assert "waiting  aborted" in again.err


async def test_jobs_are_aborted_by_what_they_are(run, redis_url, redis):
    async with Producer(redis_url) as producer:
        await producer.enqueue_many([hold(n % 3) for n in range(30)], metadata={"batch": "b"})
        await producer.enqueue(Call("other"))
    counted = await run("abort", "--task", "cli_*", "--argument", "0=1", "--metadata", "batch=b", "--dry-run")
    assert counted.code == 0, counted.err
    assert "10 jobs of 31 would be aborted." in counted.err
    assert await redis.zcard("arq:queue") == 31
    refused = await run("abort", "--task", "cli_hold")
    assert refused.code == 2
    done = await run("abort", "--task", "cli_hold", "--argument", "0=1", "--yes", "--json")
    assert done.document == {
        "looked_at": 31, "matched": 10, "cancelled": 10, "told": 0, "left": 0, "unreadable": 0, "dry_run": False,
    }  # fmt: skip
    rest = await run("abort", "--task", "cli_hold", "--state", "queued", "--yes")
    assert "Aborted 20 jobs that waited." in rest.err
    assert await redis.zcard("arq:queue") == 1


async def test_jobs_are_rescheduled(run, redis_url, redis):
    async with Producer(redis_url) as producer:
        job = await producer.enqueue(hold(1), job_id="later", delay=3600)
        moved = await run("reschedule", "later", "--at", "2030-01-31T08:00Z", "--json")
        assert moved.code == 0, moved.err
        assert moved.document == [{"job_id": "later", "due_at": "2030-01-31T08:00:00+00:00", "error": None}]
        assert await redis.zscore("arq:queue", "later") == 1896076800000
        both = await run("reschedule", "later", "no-such-job", "--delay", "0")
        assert both.code == 1
        assert "later  due at 20" in both.err
        assert "no-such-job  job no-such-job cannot be rescheduled" in both.err
        assert (await job.status()).value == "queued"
        await job.abort()
        late = await run("reschedule", "later", "--delay", "5m")
        assert late.code == 1
        assert "it was aborted" in late.err


@pytest.mark.parametrize(
    "arguments", [("abort", "a"), ("abort", "--task", "t", "--yes"), ("reschedule", "a", "--delay", "1")]
)
async def test_without_a_server_it_is_one_line_and_exit_code_3(arguments, run):
    ended = await run(*arguments, BARQUE_REDIS_URL="redis://127.0.0.1:1")
    assert ended.code == 3
    assert ended.err.startswith("barque: Redis at redis://127.0.0.1:1")


async def test_queues_and_tasks_are_paused_shown_and_resumed(run, redis_url):
    async with Producer(redis_url) as producer:
        paused = await run(
            "pause", "--queue", "arq:queue", "--task", "cli_hold", "--reason", "a \x1b[31m test", "--by", "ada"
        )
        assert paused.code == 0, paused.err
        assert "Queue arq:queue: paused." in paused.err
        assert "Task cli_hold: paused." in paused.err
        assert "No live worker serves queue arq:queue, and nothing is in it" in paused.err
        again = await run("pause", "--queue", "arq:queue", "--json")
        assert [(each["kind"], each["name"], each["by"], each["is_new"]) for each in again.document] == [
            ("queue", "arq:queue", "ada", False)
        ]
        assert "was paused already, " in (await run("pause", "--task", "cli_hold")).err
        await producer.enqueue(hold(1), job_id="held")
        held = " ".join((await run("status", "held")).out.split())
        assert "paused queue arq:queue, " in held
        assert "paused task cli_hold, " in held
        assert r"by ada: a \x1b[31m test" in held
        shown = await run("status")
        assert "Paused: queue arq:queue, " in shown.out
        assert r"by ada: a \x1b[31m test" in shown.out.replace("\n", " ")
        overview = (await run("status", "--json")).document
        assert overview["queues"][0]["paused"] is True
        assert [(pause["kind"], pause["waiting"]) for pause in overview["pauses"]] == [("queue", None), ("task", 0)]
        resumed = await run("resume", "--queue", "arq:queue", "--task", "cli_hold", "--queue", "other")
        assert resumed.code == 0
        assert resumed.err.splitlines() == [
            "Queue arq:queue: resumed.",
            "Queue other: was not paused.",
            "Task cli_hold: resumed.",
        ]
        assert await producer.pauses() == []
        assert "Paused" not in (await run("status")).out
