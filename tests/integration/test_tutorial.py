"""docs/tutorial/, followed: its files written down, its commands given, and what they print held against the page.

Each page has a server and a worker with its own weather.py. Programs and commands run in this process, in a thread, for
starting Python some twenty times is what the rest takes together; the test of the last page starts real ones.
"""

import asyncio
import importlib
import sys
from pathlib import Path

import pytest
import structlog
from aiohttp import web

from tests.support.fleet import start_workers
from tests.support.pages import commands, follow, programs, run
from tests.support.running import run_worker

__all__ = ["run_worker", "start_workers"]

STEPS = ("script", "task", "failures", "many", "schedule", "test", "fleet")
PAGES = [f"docs/tutorial/{name}.md" for name in STEPS]
GO_ON = ("python station.py", "barque redis", "barque worker", "barque top")
"""Commands that run until they are stopped: a server, a worker and the stations are there."""


@pytest.fixture
async def station(tmp_path, monkeypatch):
    """The stations of the first page, in a hurry, in the folder where its reader is."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    # The worker of this process is to log nowhere near what the commands print.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    for name in ("weather", "station", "test_weather"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "station.py").write_text(programs(PAGES[0])["station.py"])
    stations = importlib.import_module("station")
    monkeypatch.setattr(stations, "DELAY", 0.02)
    runner = web.AppRunner(stations.stations(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (listening,) = site._server.sockets
    monkeypatch.setenv("STATION", f"http://127.0.0.1:{listening.getsockname()[1]}")
    yield tmp_path
    await runner.cleanup()
    for name in ("weather", "station", "test_weather"):
        sys.modules.pop(name, None)


def write_down(folder: Path, page: str) -> None:
    """Write the page's files, and of the pages before it those that it goes on with."""
    for each in PAGES[: PAGES.index(page) + 1]:
        for name, text in programs(each).items():
            (folder / name).write_text(text)


@pytest.mark.leaves_keys("arq:*", "barque:*")
@pytest.mark.parametrize("page", PAGES[:5], ids=STEPS[:5])
async def test_a_page_shows_what_its_commands_print(page, station, redis_url, run_worker, monkeypatch):
    monkeypatch.setenv("BARQUE_REDIS_URL", redis_url)
    write_down(station, page)
    if page != PAGES[0]:
        # No minute is to end between two commands: the page shows a schedule that has not run yet.
        never = (station / "weather.py").read_text().replace("every(60)", "every(365 * 86_400)")
        (station / "weather.py").write_text(never)
        weather = importlib.import_module("weather")
        resources = [weather.http] if hasattr(weather, "http") else []
        await run_worker(weather.temperature, lifespans=resources, keep_result=60)
    given = [command for command in commands(page) if not command.line.startswith(GO_ON)]
    for command in given:
        await follow(command)
    assert given


async def test_the_tests_of_the_page_pass(station):
    write_down(station, PAGES[5])
    tests = importlib.import_module("test_weather")
    ran = [test for name, test in vars(tests).items() if name.startswith("test_")]
    for test in ran:
        await test()
    (shown,) = [command.printed for command in commands(PAGES[5])]
    assert f"\n{len(ran)} passed" in shown


@pytest.mark.leaves_keys("arq:*", "barque:*")
async def test_two_processes_share_the_work(station, redis_url, run_worker, start_workers, monkeypatch):
    monkeypatch.setenv("BARQUE_REDIS_URL", redis_url)
    write_down(station, PAGES[6])
    unlimited = "".join(
        line for line in (station / "weather.py").read_text().splitlines(keepends=True) if "limits=[" not in line
    )
    (station / "weather.py").write_text(unlimited)
    weather = importlib.import_module("weather")
    await run_worker(weather.temperature, lifespans=[weather.http], keep_result=60, max_jobs=10)
    await start_workers(1, unlimited, concurrency=10)
    whose, status = [c for c in commands(PAGES[6]) if c.line in {"python whose.py", "barque status"}]
    out, _ = await asyncio.to_thread(run, whose.line)
    assert len(out.splitlines()) == len(whose.printed.split("\n\n")[0].splitlines()) == 2
    assert sum(int(line.rpartition(" ")[2]) for line in out.splitlines()) == 200
    out, _ = await asyncio.to_thread(run, status.line)
    assert out.splitlines()[2] == status.printed.splitlines()[2]
