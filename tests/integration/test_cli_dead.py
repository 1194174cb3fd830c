"""`barque dead` as a program, against a real server."""

import pytest
from arq.connections import RedisSettings

from common import Context, RetryPolicy, task
from producer import Producer
from tests.integration.test_cli import barque, run
from workers import Worker

__all__ = ["barque", "run"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "arq:job:*", "arq:queue", "barque:wake:*")


@task(name="cli_breaks", retry=RetryPolicy(max_attempts=1))
async def breaks(ctx: Context, secret: str) -> None:
    raise LookupError("it broke")


@pytest.fixture
async def dead(redis_url, redis):
    """Two jobs that failed, and one that cannot be decoded."""
    async with Producer(redis_url) as producer:
        for job_id in ("one", "two"):
            await producer.enqueue(breaks("hunter2"), job_id=job_id)
    await redis.set("arq:job:odd", b"\xff no job")
    await redis.zadd("arq:queue", {"odd": 1})
    worker = Worker([breaks], redis_settings=RedisSettings.from_dsn(redis_url), handle_signals=False, burst=True)
    await worker.async_run()
    await worker.close()


@pytest.mark.usefixtures("dead")
async def test_from_looking_to_replaying(run, redis):
    listed = await run("dead", "list", "--task", "cli_*", "--json")
    assert listed.code == 0, listed.err
    assert {letter["job_id"] for letter in listed.document["letters"]} == {"one", "two"}
    assert listed.document["next"] is None
    first = (await run("dead", "list", "--limit", "1", "--json")).document
    second = (await run("dead", "list", "--limit", "2", "--after", first["next"], "--json")).document
    ids = [letter["job_id"] for letter in [*first["letters"], *second["letters"]]]
    assert sorted(ids) == ["odd", "one", "two"]

    shown = await run("dead", "show", "one")
    assert "LookupError: it broke" in shown.out
    assert "raise LookupError" in shown.out
    assert "hunter2" not in shown.out + shown.err
    assert "hunter2" in (await run("dead", "show", "one", "--arguments")).out
    assert "ff206e6f 206a6f62" in (await run("dead", "show", "odd")).out

    replayed = await run("dead", "replay", "--error", "LookupError", "--newer", "1h", "--delay", "1h", "--json")
    assert replayed.document == {"replayed": 2, "taken": [], "missing": []}
    assert await redis.zcard("arq:queue") == 2
    assert "hunter2" not in (await run("dead", "list")).out
    again = await run("dead", "replay", "one", "odd")
    assert again.code == 1
    assert "one  not there" in again.err
    assert "Replayed 1 job." in again.err


@pytest.mark.usefixtures("dead")
async def test_deleting_asks_unless_it_is_told_not_to(run, redis):
    refused = await run("dead", "delete", "--all")
    assert refused.code == 2
    assert await redis.zcard("barque:dead") == 3
    assert (await run("dead", "delete", "one", "--json")).document == {"deleted": 1}
    assert (await run("dead", "delete", "one")).code == 1
    assert (await run("dead", "delete", "--older", "1d", "--yes", "--json")).document == {"deleted": 0}
    assert (await run("dead", "delete", "--queue", "arq:queue", "--yes", "--json")).document == {"deleted": 2}
    assert "There are no dead letters." in (await run("dead", "list")).out


async def test_one_that_is_not_there_is_exit_code_1(run, redis_url):
    ended = await run("dead", "show", "nowhere")
    assert (ended.code, ended.out) == (1, "")
    assert "there is no dead letter of job nowhere" in ended.err
    assert "Traceback" not in ended.err


async def test_without_a_server_it_is_one_line_and_exit_code_3(run):
    ended = await run("dead", "list", BARQUE_REDIS_URL="redis://127.0.0.1:1")
    assert ended.code == 3
    assert ended.err.startswith("barque: Redis at redis://127.0.0.1:1")
