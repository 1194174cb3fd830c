"""Resources of `BARQUE_TASKS` modules, in worker processes of their own, started by both command lines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.tasks import Call
from producer import Producer

ROOT = Path(__file__).parents[2]
ARQ = [str(Path(sys.executable).with_name("arq")), "workers.WorkerSettings", "--burst"]
BARQUE = [str(Path(sys.executable).with_name("barque")), "worker", "--burst"]

pytestmark = pytest.mark.leaves_keys("arq:result:*")

SHOP = """
import os
from common import lifespan, task

@lifespan
async def database():
    print("opened", flush=True)
    if os.environ.get("SHOP_DOWN"):
        raise ConnectionRefusedError("nobody listens there")
    yield {"name": "shop"}
    print("closed", flush=True)

@task(name="shop_name")
async def shop_name(ctx) -> str:
    return ctx[database]["name"]
"""


@pytest.fixture
def run(tmp_path, redis_url):
    (tmp_path / "shop.py").write_text(SHOP)

    def run(command, **environment):
        paths = os.pathsep.join([str(tmp_path), str(ROOT)])
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ
            | {"BARQUE_TASKS": "shop", "BARQUE_REDIS_URL": redis_url, "BARQUE_LOG_FORMAT": "json"}
            | {"PYTHONPATH": paths}
            | environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


@pytest.mark.parametrize("command", [ARQ, BARQUE], ids=["arq", "barque"])
async def test_what_a_tasks_module_declares_is_opened_once_for_all_jobs(run, redis_url, command):
    async with Producer(redis_url) as producer:
        jobs = await producer.enqueue_many([Call("shop_name")] * 3)
        ended = run(command)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.split() == ["opened", "closed"]
        assert [await job.result(timeout=10) for job in jobs] == ["shop"] * 3


@pytest.mark.parametrize("command", [ARQ, BARQUE], ids=["arq", "barque"])
def test_one_that_cannot_be_opened_ends_the_worker_with_one_line_and_exit_code_1(run, command):
    ended = run(command, SHOP_DOWN="1")
    assert ended.returncode == 1
    *logged, last = ended.stderr.splitlines()
    assert "database" in last
    assert "could not be opened: ConnectionRefusedError: nobody listens there" in last
    assert "Traceback" not in last
    (line,) = [line for line in map(json.loads, logged) if line["event"] == "resource_not_opened"]
    assert line["level"] == "error"
    assert line["resource"] == "database"
    assert "shop.py" in line["exception"]  # the traceback, for whoever wants to know where
