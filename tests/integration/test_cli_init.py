"""`barque init` as a program, and the project it writes: its tests pass, its worker runs, its program has results."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
import yaml
from aiohttp import web

ROOT = Path(__file__).parents[2]
FILES = {
    "tasks.py", "enqueue.py", "test_tasks.py", "README.md", "Dockerfile", "docker-compose.yml", ".env", ".gitignore",
}  # fmt: skip


async def run(*words: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 100)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def init(*words: str, folder: Path) -> tuple[int, str, str]:
    return await run(sys.executable, "-m", "cli", "init", *words, folder=folder)


async def test_it_writes_a_project_and_says_how_to_go_on(tmp_path):
    code, out, err = await init("mine", folder=tmp_path)
    assert (code, {path.name for path in (tmp_path / "mine").iterdir()}) == (0, FILES)
    assert {Path(line).name for line in out.splitlines()} == FILES
    assert "cd mine" in err
    assert "barque worker" in err
    compose = yaml.safe_load((tmp_path / "mine" / "docker-compose.yml").read_text("utf-8"))
    assert set(compose["services"]) == {"redis", "worker"}


async def test_it_overwrites_nothing(tmp_path):
    (tmp_path / "tasks.py").write_text("precious")
    code, out, err = await init(folder=tmp_path)
    assert (code, out) == (2, "")
    assert "there is already tasks.py; nothing was written" in err
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.py"]
    assert (tmp_path / "tasks.py").read_text() == "precious"


async def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "taken").write_text("")
    code, _, err = await init("taken", folder=tmp_path)
    assert code == 2
    assert "taken: cannot be written: it is a file" in err


async def test_its_own_tests_pass(tmp_path):
    await init(folder=tmp_path)
    code, out, err = await run(
        sys.executable, "-m", "pytest", "-q", "-p", "pytest_asyncio.plugin", "-W", "error",
        "-o", "asyncio_default_fixture_loop_scope=function",
        folder=tmp_path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )  # fmt: skip
    assert code == 0, out + err
    assert "2 passed" in out


@pytest.fixture
async def a_page():
    """A page on this machine, whose server is away at first."""
    asked = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "0"})
        return web.Response(text="<title>Fish &amp; ships</title>", content_type="text/html")

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (socket,) = site._server.sockets
    yield f"http://127.0.0.1:{socket.getsockname()[1]}/"
    await runner.cleanup()


@pytest.mark.leaves_keys("arq:result:*")
async def test_its_worker_runs_what_its_program_enqueues(tmp_path, redis_url, a_page):
    await init(folder=tmp_path)
    lines = (tmp_path / ".env").read_text("utf-8").splitlines()
    there = [f"BARQUE_REDIS_URL={redis_url}" if "REDIS_URL" in line else line for line in lines]
    (tmp_path / ".env").write_text("\n".join(there))
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "worker", cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        code, out, err = await run(sys.executable, "enqueue.py", a_page, folder=tmp_path)
        assert (code, out) == (0, "Fish & ships\n"), err
    finally:
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 60) == 0
