"""`barque schedules` as a program, against a real server."""

import json

import pytest
from arq.connections import RedisSettings

from common import Context, task
from tests.integration.test_cli import barque, run
from workers import Worker

__all__ = ["barque", "run"]


@task(name="cli_told")
async def tell(ctx: Context, *args: object, **kwargs: object) -> dict[str, object]:
    return {"args": list(args), "kwargs": kwargs, "metadata": dict(ctx.metadata)}


@pytest.mark.leaves_keys("arq:result:*")
async def test_from_adding_to_removing(run, redis_url):
    call = ("five", "cli_told", "5", "text", "-k", "a=true", "--no-check", "--queue", "own")
    added = await run("schedules", "add", *call, "--cron", "30 6 * * *", "--timezone", "Asia/Tokyo", "--json")
    assert added.code == 0, added.err
    assert added.document["next_run"].endswith("T21:30:00+00:00")
    assert (await run("schedules", "add", *call, "--cron", "30 6 * * *", "--timezone", "Asia/Tokyo")).code == 0
    refused = await run("schedules", "add", *call, "--every", "5m")
    assert refused.code == 2
    assert "(--replace) changes it" in refused.err
    changed = await run("schedules", "add", *call, "--every", "5m", "--replace", "--json")
    assert changed.document["when"] == "every 5m"

    paused = await run("schedules", "pause", "five", "--json")
    assert paused.document == {"name": "five", "state": "paused"}
    assert (await run("schedules", "pause", "five", "--json")).document["state"] == "was paused already"
    listed = await run("schedules", "list")
    assert "five" in listed.out
    assert "paused" in listed.out
    assert "\x1b" not in listed.out
    assert (await run("schedules", "resume", "five", "--json")).document["state"] == "resumed"

    started = await run("schedules", "run-now", "five")
    job_id = started.out.strip()
    worker = Worker(
        [tell], queues=["own"], redis_settings=RedisSettings.from_dsn(redis_url), handle_signals=False, burst=True
    )
    await worker.async_run()
    await worker.close()
    result = json.loads((await run("result", job_id)).out)
    assert result == {"args": [5, "text"], "kwargs": {"a": True}, "metadata": {"schedule": "five"}}

    shown = (await run("schedules", "show", "five", "--arguments", "--json")).document
    assert (shown["arguments"], shown["keyword_arguments"], shown["queue"]) == ([5, "text"], {"a": True}, "own")
    assert (await run("schedules", "remove", "five")).code == 0
    assert json.loads((await run("schedules", "list", "--json")).out) == []


@pytest.mark.parametrize("command", ["show", "pause", "resume", "run-now", "remove"])
async def test_one_that_is_not_there_is_exit_code_1(command, run, redis_url):
    ended = await run("schedules", command, "nowhere")
    assert (ended.code, ended.out) == (1, "")
    assert "no schedule called" in ended.err
    assert "Traceback" not in ended.err


async def test_arguments_are_checked_against_the_task_where_its_code_is(run, redis_url):
    ended = await run("schedules", "add", "sums", "checksum_file", "--every", "5m")
    assert ended.code == 2
    assert "argument path is missing" in ended.err
    assert (await run("schedules", "list", "--json")).document == []


async def test_without_a_server_it_is_one_line_and_exit_code_3(run):
    ended = await run("schedules", "list", BARQUE_REDIS_URL="redis://127.0.0.1:1")
    assert ended.code == 3
    assert ended.err.startswith("barque: Redis at redis://127.0.0.1:1")
