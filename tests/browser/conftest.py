"""A real Chromium before a real `barque dashboard`, on the test's own server, with a worker where a test wants one.

    address      the URL of the dashboard, which serves all tests of the session
    start        `await start(read_only=True)`: another dashboard, with settings of its own; returns its URL
    open_page    `page = await open_page("/queues", dark=True, phone=True)`: a tab of a context of its own
    producer, run_worker    as everywhere, in the loop of these tests

All of it lives in one event loop, that of the session, for the browser does: each file here says so. When a test ends,
each of its tabs has to have written nothing to its console, broken no policy, and asked nobody but the dashboard.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from arq.connections import RedisSettings
from playwright.async_api import async_playwright, expect

from producer import Producer
from workers.worker import Worker

ROOT = Path(__file__).parents[2]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_CHROMIUM = os.environ.get("BARQUE_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
_SWITCHES = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]
_WITHIN = 30_000
"""Milliseconds that anything may take: no timing decides a test."""

_REFUSED = re.compile(r"status of (4\d\d|503)")
"""What a browser says of an answer that a test asked for."""

expect.set_options(timeout=_WITHIN)


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        item.add_marker(pytest.mark.timeout(240))
        # Results, progress and the history of jobs stay as they would in production.
        if item.get_closest_marker("leaves_keys") is None:
            item.add_marker(pytest.mark.leaves_keys)
        if _CHROMIUM is None:
            why = f"no Chromium: none of {', '.join(_NAMES)} is on PATH, and BARQUE_TEST_CHROMIUM names none"
            item.add_marker(pytest.mark.skip(reason=why))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser():
    with tempfile.TemporaryDirectory(prefix="barque-browser-", ignore_cleanup_errors=True) as profile:
        async with async_playwright() as playwright:
            launched = await playwright.chromium.launch(
                executable_path=_CHROMIUM, args=_SWITCHES, timeout=_WITHIN * 2, env=os.environ | {"HOME": profile}
            )
            yield launched
            await launched.close()


class Dashboard:
    """`barque dashboard` as a process of its own."""

    def __init__(self, redis_url: str, folder: Path, **settings: object) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
        given = {f"BARQUE_DASHBOARD_{name.upper()}": str(value).lower() for name, value in settings.items()}
        self._said = (folder / "dashboard.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli", "dashboard", "--port", "0"],
            cwd=folder, stdout=self._said, stderr=self._said,
            env=kept | {"PYTHONPATH": str(ROOT), "BARQUE_REDIS_URL": redis_url} | given,
        )  # fmt: skip

    async def url(self) -> str:
        """Return its URL, once it listens."""
        async with asyncio.timeout(60):
            while True:
                said = Path(self._said.name).read_text()
                if found := re.search(r"http://127\.0\.0\.1:\d+", said):
                    return found[0]
                assert self._process.poll() is None, said
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        """Ask it to end; it has to do so by itself, whoever looks on, and has to have nothing to complain about."""
        self._process.terminate()
        try:
            code = self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()
            said = Path(self._said.name).read_text()
            self._said.close()
        assert code == 0, said
        assert "dashboard_error" not in said, said


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def address(server, tmp_path_factory):
    dashboard = Dashboard(server.url, tmp_path_factory.mktemp("dashboard"))
    try:
        yield await dashboard.url()
    finally:
        await asyncio.to_thread(dashboard.stop)


@pytest_asyncio.fixture(loop_scope="session")
async def start(tmp_path_factory):
    started: list[Dashboard] = []

    async def another(redis_url: str, **settings: object) -> str:
        started.append(Dashboard(redis_url, tmp_path_factory.mktemp("dashboard"), **settings))
        return await started[-1].url()

    yield another
    for dashboard in started:
        await asyncio.to_thread(dashboard.stop)


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser, address, redis_url, start):  # tabs are closed before what they show is stopped
    contexts, complaints = [], []

    async def opened(path: str, *, base: str = address, dark: bool = False, phone: bool = False, script: bool = True):
        context = await browser.new_context(
            base_url=base,
            color_scheme="dark" if dark else "light",
            viewport={"width": 360, "height": 740} if phone else {"width": 1280, "height": 900},
            java_script_enabled=script,
        )
        contexts.append(context)
        context.set_default_timeout(_WITHIN)
        page = await context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda said: None if _REFUSED.search(said.text) else complaints.append(said.text))
        page.on("request", lambda asked: complaints.extend(_elsewhere(asked.url, base)))
        await page.goto(path)
        return page

    yield opened
    for context in contexts:
        await context.close()
    assert complaints == []


def _elsewhere(url: str, base: str) -> list[str]:
    own = urlsplit(url)[:2] == urlsplit(base)[:2] or url.startswith("data:")
    return [] if own else [f"asked {url}"]


@pytest_asyncio.fixture(loop_scope="session")
async def producer(redis_url):
    async with Producer(redis_url) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def run_worker(redis_url):
    started: list[tuple[Worker, asyncio.Task[None]]] = []

    async def run(*functions, **options) -> Worker:
        options = {"handle_signals": False, "poll_delay": 0.1, "allow_abort_jobs": True} | options
        worker = Worker(functions, redis_settings=RedisSettings.from_dsn(redis_url), **options)
        started.append((worker, asyncio.create_task(worker.async_run())))
        return worker

    yield run
    for worker, running in reversed(started):
        running.cancel()
        await asyncio.wait({running})
        await worker.close()
