"""The programs of README.md and of the pages right in docs/ are run, and the sessions of the quick start typed.

Where a program waits for its jobs, a worker has their tasks. The tutorial and the guides have tests of their own.
"""

import asyncio
import importlib
import runpy
import sys

import pytest

from common import Context, Task, task
from producer import Producer
from tests.support.page_blocks import Block, blocks
from tests.support.pages import commands, follow, programs, run
from tests.support.running import run_worker

__all__ = ["run_worker"]

GO_ON = ("barque redis", "barque worker", "barque dashboard", "barque demo")
"""Commands that run until they are stopped."""

IN_A_HURRY = ("exponential(1, maximum=60)", "exponential(0.01)")

ENDLESS = "async for attempt in feed"
PROGRAMS = [
    block
    for block in blocks("python")
    if block.page.startswith("docs/") and block.page.count("/") == 1 and "asyncio.run(" in block.code
    if ENDLESS not in block.code and block.page != "docs/quick_start.md"
]


@pytest.fixture
async def settle(tmp_path, monkeypatch, redis_url, run_worker):
    """`await settle(page)`: its files are there, and a worker runs its tasks."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BARQUE_REDIS_URL", redis_url)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delitem(sys.modules, "my_tasks", raising=False)

    async def write_down_and_work(page: str) -> None:
        for name, code in programs(page).items():
            (tmp_path / name).write_text(code.replace(*IN_A_HURRY), "utf-8")
        my_tasks = importlib.import_module("my_tasks")
        tasks = [value for name, value in vars(my_tasks).items() if name in {"greet", "call"}]
        await run_worker(*tasks, keep_result=60)

    yield write_down_and_work
    sys.modules.pop("my_tasks", None)


@pytest.mark.leaves_keys("arq:*", "barque:*")
async def test_the_sessions_of_the_quick_start_print_what_it_shows(settle):
    page = "docs/quick_start.md"
    await settle(page)
    given = [command for command in commands(page) if not command.line.startswith(GO_ON)]
    assert len(given) == 6
    for command in given:
        await follow(command)


@pytest.mark.leaves_keys("arq:*", "barque:*")
async def test_the_programs_of_the_readme_run(settle, tmp_path):
    page = "README.md"
    await settle(page)
    shown = [block.code for block in blocks("python") if block.page == page and block.file != "my_tasks.py"]
    assert len(shown) == 2
    printed = ""
    for number, code in enumerate(shown):
        (tmp_path / f"program_{number}.py").write_text(code, "utf-8")
        printed += (await asyncio.to_thread(run, f"python program_{number}.py"))[0]
    assert printed.splitlines() == [
        "Hello, Ada", "['Hello, Grace', 'Hello, Katherine']", "Hello, a", "Hello, b", "Hello, c", "Hello, Ada",
    ]  # fmt: skip


@task(name="nightly_report")
async def nightly_report(ctx: Context) -> None: ...


@pytest.mark.leaves_keys("arq:*", "barque:*")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda block: block.place)
async def test_a_program_of_a_page_runs(program: Block, tmp_path, monkeypatch, redis_url, run_worker):
    monkeypatch.setenv("BARQUE_REDIS_URL", redis_url)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    modules = {
        block.file: block.code for block in blocks("python") if block.file and block.page in {"README.md", program.page}
    }
    for name, code in modules.items():
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
        (tmp_path / name).write_text(code, "utf-8")
    path = tmp_path / "program.py"
    path.write_text(program.code.replace("asyncio.sleep(1)", "asyncio.sleep(0.01)"), "utf-8")

    mains = []
    with monkeypatch.context() as here:
        here.setattr(asyncio, "run", mains.append)  # it is awaited below, in the loop in which the worker is
        names = runpy.run_path(str(path), run_name="__main__")
    if "nightly-report" in program.code:
        await run_worker(nightly_report)
        async with Producer() as producer:
            job = await producer.enqueue(nightly_report(), job_id="nightly-report")
            await job.result(timeout=30)
    tasks = [value for value in names.values() if isinstance(value, Task)]
    if tasks and ".result(" in program.code:
        await run_worker(*tasks, keep_result=60)
    (main,) = mains
    async with asyncio.timeout(60):
        await main
    for name in modules:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_there_are_programs_to_run():
    assert len(PROGRAMS) > 10
