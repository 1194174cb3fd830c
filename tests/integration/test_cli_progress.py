"""How far a job is, as the command shows it: while it waits, on a terminal and elsewhere, and in `barque status`."""

import asyncio
import json
import os
import pty
import sys
from pathlib import Path

import pytest

from common import NEVER, Context, task
from producer import Producer
from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker"]

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:progress:*", "barque:watchers:*", "barque:stream:*")


class Stage:
    def __init__(self) -> None:
        self.go_on = asyncio.Event()


@pytest.fixture
def stage() -> Stage:
    return Stage()


@task(name="cli_in_parts", retry=NEVER)
async def in_parts(ctx: Context, parts: int) -> str:
    for number in range(1, parts + 1):
        ctx.progress(number, parts, f"part {number}")
    await ctx.state["stage"].go_on.wait()
    return "whole"


def environment(redis_url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
    return kept | {"PYTHONPATH": str(ROOT), "BARQUE_REDIS_URL": redis_url, "TERM": "dumb", "COLUMNS": "100"}


async def barque(redis_url: str, *arguments: str, **streams) -> asyncio.subprocess.Process:
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE} | streams
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", *arguments, env=environment(redis_url), **pipes
    )


async def test_where_stderr_is_no_terminal_there_are_lines(producer, run_worker, redis_url, stage):
    await run_worker(in_parts, ctx={"stage": stage})
    process = await barque(redis_url, "enqueue", "cli_in_parts", "4", "--no-check", "--wait")
    said = b""
    async with asyncio.timeout(60):
        while b"part 4" not in said:
            line = await process.stderr.readline()
            assert line, said
            said += line
        stage.go_on.set()
        out, rest = await process.communicate()
    assert json.loads(out) == "whole"
    lines = (said + rest).decode().splitlines()
    assert lines[-1] == "[########################] 100%  4/4  part 4"
    assert "\x1b" not in "".join(lines)
    assert process.returncode == 0


async def test_on_a_terminal_it_is_one_line_and_stdout_has_the_result_alone(producer, run_worker, redis_url, stage):
    await run_worker(in_parts, ctx={"stage": stage})
    ours, theirs = pty.openpty()
    process = await barque(redis_url, "enqueue", "cli_in_parts", "4", "--no-check", "--wait", stderr=theirs)
    os.close(theirs)
    said = b""
    async with asyncio.timeout(60):
        while b"part 4" not in said:
            said += await asyncio.to_thread(os.read, ours, 4096)
        stage.go_on.set()
        out, _ = await process.communicate()
    os.close(ours)
    assert json.loads(out) == "whole"
    assert b"\r\x1b[K[########################] 100%  4/4  part 4" in said


async def test_status_tells_how_far_a_job_is(producer, run_worker, redis_url, stage):
    await run_worker(in_parts, ctx={"stage": stage})
    job = await producer.enqueue(in_parts(3))
    async for progress in job.watch():
        if progress.done == 3:
            break
    async with asyncio.timeout(60):
        out, _ = await (await barque(redis_url, "status", job.job_id)).communicate()
        assert "[########################] 100%  3/3  part 3" in out.decode()
        out, _ = await (await barque(redis_url, "status", job.job_id, "--json")).communicate()
    (document,) = json.loads(out)
    assert document["progress"] == {
        "done": 3, "total": 3, "message": "part 3", "attempt": 1, "fraction": 1.0, "at": document["progress"]["at"],
    }  # fmt: skip
    stage.go_on.set()
    assert await job.result(timeout=20) == "whole"


async def test_a_job_that_says_nothing_shows_nothing(redis_url, run_worker, producer):
    @task(name="cli_silent")
    async def silent(ctx: Context) -> int:
        return 7

    await run_worker(silent)
    process = await barque(redis_url, "enqueue", "cli_silent", "--no-check", "--wait", "--job-id", "quiet")
    async with asyncio.timeout(60):
        out, said = await process.communicate()
    assert (json.loads(out), process.returncode) == (7, 0)
    assert said.decode().splitlines() == ["Job quiet is in arq:queue; waiting for its result."]
    async with Producer(redis_url) as again:
        assert await again.job("quiet").progress() is None
