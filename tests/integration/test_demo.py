"""`barque demo` as a person runs it: real processes, a real server, and what is left when it ends."""

import asyncio
import hashlib
import json
import os
import re
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from cli.demo.faults import Fault, plan_server
from cli.demo.items import library_files, library_folder

ROOT = Path(__file__).parents[2]
FILES = 40
SEED = 1
TIMEOUT = 3


@dataclass
class Ended:
    """A demo that has ended."""

    code: int
    out: str
    err: str
    output: Path

    @property
    def report(self):
        return json.loads(self.out)

    @property
    def folder(self):
        (folder,) = self.output.iterdir()
        return folder

    @property
    def rows(self):
        with closing(sqlite3.connect(self.folder / "fetched.sqlite3")) as connection:
            return connection.execute("SELECT name, size, sha256, status FROM fetched ORDER BY name").fetchall()

    @property
    def worker_pids(self):
        """Process ids, from the workers' own names for themselves: host-pid-random."""
        return [
            int(json.loads(line)["worker"].split("-")[-2])
            for log in sorted(self.folder.glob("logs/worker-*.jsonl"))
            for line in log.read_text().splitlines()
            if json.loads(line)["event"] == "worker_started"
        ]


@asynccontextmanager
async def started(tmp_path, *arguments, **environment) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "demo", "--output", "out", *map(str, arguments)),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"} | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**22,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process, tmp_path):
    async with asyncio.timeout(100):
        out, err = await process.communicate()
    return Ended(process.returncode, out.decode(), err.decode(), tmp_path / "out")


async def run(tmp_path, *arguments, **environment):
    async with started(tmp_path, *arguments, **environment) as process:
        return await ended(process, tmp_path)


async def under_way(process):
    """Wait until rows have been stored."""
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while not re.search(rb", stored [1-9]", line := await process.stderr.readline()):
            assert line, "the demo ended before it had stored anything"


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@asynccontextmanager
async def site() -> AsyncIterator[str]:
    """A web site on loopback that knows one page."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(body=b"a page")

    application = web.Application()
    application.router.add_get("/page", page)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_every_file_arrives_through_500s_429s_and_stalls(tmp_path):
    demo = await run(tmp_path, "--files", FILES, "--seed", SEED, "--timeout", TIMEOUT, "--json")
    assert demo.code == 0, demo.err

    folder = library_folder()
    contents = {name: (folder / name).read_bytes() for name in library_files(folder, FILES)}
    expected = [(name, len(body), hashlib.sha256(body).hexdigest(), 200) for name, body in sorted(contents.items())]
    assert len(expected) == FILES
    assert demo.rows == expected

    report = demo.report
    planned = plan_server(str(folder), list(contents), seed=SEED, timeout=TIMEOUT)
    faults = list(planned.faults.values())
    fetches = next(figures for figures in report["tasks"] if figures["task"] == "fetch_checksum")
    assert report["ok"]
    assert (fetches["jobs"], fetches["failed"]) == (FILES, 0)
    # At least: a machine under load may time out an answer that was not meant to, a planned 429 among them.
    assert fetches["retries"] >= len(faults)
    assert fetches["timeouts"] >= faults.count(Fault.STALL) > 0
    assert report["answers"]["errors"] > 0
    assert 0 < report["answers"]["busy"] <= faults.count(Fault.BUSY)
    assert report["unreadable_lines"] == 0
    assert sum(worker["jobs"] for worker in report["workers"]) == sum(figures["jobs"] for figures in report["tasks"])

    assert [worker["exit_code"] for worker in report["workers"]] == [0, 0]
    assert [worker["pid"] for worker in report["workers"]] == demo.worker_pids
    assert len(set(demo.worker_pids)) == 2
    assert not any(map(is_running, demo.worker_pids))
    assert json.loads((demo.folder / "report.json").read_text()) == report
    assert "All 40 rows are there" in (demo.folder / "report.md").read_text()


async def test_a_file_that_arrives_wrong_is_found_and_named(tmp_path):
    demo = await run(tmp_path, "--files", 8, "--seed", SEED, "--timeout", TIMEOUT, "--corrupt", 1)
    folder = library_folder()
    (name,) = plan_server(str(folder), library_files(folder, 8), seed=SEED, timeout=TIMEOUT, corrupt=1).corrupt
    assert demo.code == 1
    assert "8 rows for 8 items: 1 wrong." in demo.out
    assert f"A row that is not the file on disk:\n  {name}\n" in demo.out
    assert json.loads((demo.folder / "report.json").read_text())["verdict"]["wrong"] == [name]


class TestUrls:
    async def test_a_list_of_urls_is_fetched(self, tmp_path):
        async with site() as url:
            (tmp_path / "urls.txt").write_text(f"# mine\n{url}/page\n{url}/page?second\n")
            demo = await run(tmp_path, "--urls", "urls.txt", "--json", BARQUE_HTTP_ALLOW_PRIVATE="true")
        digest = hashlib.sha256(b"a page").hexdigest()
        assert demo.code == 0, demo.err
        assert demo.report["answers"] is None
        assert demo.rows == [(f"{url}/page", 6, digest, 200), (f"{url}/page?second", 6, digest, 200)]

    async def test_one_that_fails_is_listed_and_the_others_are_stored(self, tmp_path):
        async with site() as url:
            (tmp_path / "urls.txt").write_text(f"{url}/page\n{url}/gone?token=hidden\n")
            demo = await run(tmp_path, "--urls", "urls.txt", "--json", BARQUE_HTTP_ALLOW_PRIVATE="true")
        assert demo.code == 1
        (failure,) = demo.report["failures"]
        assert failure["name"] == f"line 2: {url}/gone?…"
        assert "HttpStatusError" in failure["error"]
        assert "404" in failure["error"]
        assert "hidden" not in demo.out + demo.err
        assert [row[0] for row in demo.rows] == [f"{url}/page"]
        assert demo.report["verdict"]["missing"] == []

    async def test_private_addresses_stay_refused(self, tmp_path):
        async with site() as url:
            (tmp_path / "urls.txt").write_text(f"{url}/page\n")
            demo = await run(tmp_path, "--urls", "urls.txt", "--json")
        assert demo.code == 1
        assert "ForbiddenAddress" in demo.report["failures"][0]["error"]
        assert demo.rows == []

    async def test_a_bad_list_starts_nothing(self, tmp_path):
        (tmp_path / "urls.txt").write_text("not a url\n")
        demo = await run(tmp_path, "--urls", "urls.txt")
        assert demo.code == 2
        assert "line 1" in demo.err
        assert not demo.output.exists()


@pytest.mark.parametrize("how", ["option", "environment"])
async def test_a_server_of_ones_own_is_left_as_it_was(tmp_path, redis_url, redis, how):
    """That no key of the demo's stays is the fixture's check."""
    await redis.zadd("arq:queue", {"somebody's job": 1})
    await redis.set("arq:job:somebody's job", b"x")
    chosen = {"BARQUE_REDIS_URL": redis_url} if how == "environment" else {}
    options = ["--server", redis_url] if how == "option" else []
    demo = await run(tmp_path, "--files", 8, "--timeout", TIMEOUT, "--json", *options, **chosen)
    assert demo.code == 0, demo.err
    assert "embedded" not in demo.report["redis"]
    assert await redis.zrange("arq:queue", 0, -1) == [b"somebody's job"]
    assert await redis.delete("arq:queue", "arq:job:somebody's job") == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_an_interrupted_demo_leaves_neither_process_nor_key(tmp_path, redis_url, number, code):
    async with started(tmp_path, "--server", redis_url) as process:
        await under_way(process)
        process.send_signal(number)
        demo = await ended(process, tmp_path)
    assert demo.code == code
    assert "Traceback" not in demo.err
    assert "Interrupted" in demo.err
    assert len(demo.worker_pids) == 2
    assert not any(map(is_running, demo.worker_pids))
    assert 0 < len(demo.rows) < len(library_files(library_folder()))


async def test_a_worker_that_dies_ends_the_demo_with_a_reason(tmp_path):
    async with started(tmp_path) as process:
        await under_way(process)
        first, second = Ended(0, "", "", tmp_path / "out").worker_pids
        os.kill(first, signal.SIGKILL)
        demo = await ended(process, tmp_path)
    assert demo.code == 1
    assert "barque: worker 1 ended with code -9" in demo.err
    assert not is_running(second)
