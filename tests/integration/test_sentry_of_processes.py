"""Worker processes whose own modules set up Sentry, as a program does that knows nothing of Barque's part in it."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from common.errors import TaskFailed
from common.tasks import Call
from tests.support.running import producer

__all__ = ["producer"]

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:worker*", "*:health-check")

TASKS = """
import json, pathlib
import sentry_sdk
from sentry_sdk.transport import Transport
from common import NEVER, Context, task

class ToFile(Transport):
    def __init__(self):
        super().__init__({})

    def capture_envelope(self, envelope):
        with pathlib.Path("events.jsonl").open("a") as file:
            for item in envelope.items:
                if item.type == "event":
                    file.write(json.dumps(item.payload.json) + "\\n")

sentry_sdk.init(dsn="https://key@sentry.invalid/1", transport=ToFile())

@task(name="breaks", retry=NEVER)
async def breaks(ctx: Context, customer: str) -> None:
    raise ValueError("broken")

@task(name="breaks_elsewhere", retry=NEVER, cpu=True)
def breaks_elsewhere(ctx: Context, customer: str) -> None:
    raise ValueError("broken")
"""


@pytest.mark.parametrize("command", [("-m", "arq", "workers.WorkerSettings"), ("-m", "cli", "worker")])
async def test_their_errors_are_reported_and_their_arguments_are_not(producer, redis_url, tmp_path, command):
    (tmp_path / "their_tasks.py").write_text(TASKS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BARQUE_", "SENTRY_"))}
    settings = {"BARQUE_REDIS_URL": redis_url, "BARQUE_TASKS": "their_tasks"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=tmp_path,
        env=kept | settings | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        jobs = {name: await producer.enqueue(Call(name, "hunter2")) for name in ("breaks", "breaks_elsewhere")}
        for job in jobs.values():
            with pytest.raises(TaskFailed):
                await job.result(timeout=90)
        file = tmp_path / "events.jsonl"
        async with asyncio.timeout(60):  # what is recorded is there before it is reported
            while not file.exists() or file.read_text().count("\n") < len(jobs):
                await asyncio.sleep(0.02)
    finally:
        process.kill()
        await process.wait()
    assert "hunter2" not in file.read_text()
    events = {event["tags"]["task"]: event for event in map(json.loads, file.read_text().splitlines())}
    for name, job in jobs.items():
        assert events[name]["tags"]["job_id"] == job.job_id
        assert events[name]["exception"]["values"][-1]["value"] == "broken"
    assert "in breaks_elsewhere" in events["breaks_elsewhere"]["extra"]["traceback"]
