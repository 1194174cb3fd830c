"""The examples of docs/dashboard.md, as they stand there, run by a shell against a dashboard that is served."""

import asyncio
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from common import Context, task
from tests.support.dashboards import served
from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker"]

pytestmark = [
    pytest.mark.leaves_keys,
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here"),
]

PAGE = (Path(__file__).parents[2] / "docs/dashboard.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [
    command
    for example in EXAMPLES
    for command in re.split(r"^(?=curl)", example, flags=re.MULTILINE)
    if command.startswith("curl")
]
TOKEN = "0123456789abcdef"


async def run(command: str, url: str) -> dict:
    shell = await asyncio.create_subprocess_exec(
        "sh", "-ec", command, env={"PATH": os.environ["PATH"], "DASHBOARD": url, "TOKEN": TOKEN},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await shell.communicate()
    assert shell.returncode == 0
    return json.loads(out)


async def test_they_do_what_the_page_says(redis_url, run_worker, producer):
    @task(name="resize_image")
    async def resize_image(ctx: Context, name: str, width: int) -> str:
        return f"{width}/{name}"

    await run_worker(resize_image)
    said = []
    with served(redis_url, token=TOKEN) as url:
        for command in COMMANDS:
            answer = await run(command, url)
            assert "status" not in answer, answer
            said.append(answer)
    made, debounced, result, paused, resumed, listed, replayed, aborted, added = said
    assert (added["name"], added["when"]) == ("tidy-eu", "30 6 * * mon-fri")
    assert (made["job_id"], made["is_new"], debounced["queue"]) == ("cat-200", True, "low")
    assert (result["state"], result["result"]) == ("succeeded", "200/cat.png")
    assert (paused["pause"]["reason"], resumed["was_paused"]) == ("moving the database", True)
    assert [each["task"] for each in listed["jobs"]] == []  # "low" is served by nobody, and not of BARQUE_QUEUES
    assert (replayed["replayed"], aborted["aborted"]) == (0, False)
    assert (await producer.job(debounced["job_id"], queue="low").info()).keyword_arguments == {"id": 7}
