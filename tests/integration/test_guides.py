"""The programs of docs/guides/, run in a sandbox against stand-ins of what they talk to."""

import asyncio
import contextlib
import importlib
import importlib.util
import json
import sqlite3
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from aiohttp import web

from common import Call
from tests.support.page_blocks import blocks
from tests.support.pages import commands, programs
from workers.testing import Ran, Sandbox


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Import a page's Python blocks, each as a module: by the name of its file, or by its number from 0."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def imported(page: str, which: str | int) -> ModuleType:
        if isinstance(which, int):
            code = [block.code for block in blocks("python") if block.page == page][which]
            name = f"block_{which}_of_{Path(page).stem}"
        else:
            code, name = programs(page)[which], which.removesuffix(".py")
        (tmp_path / f"{name}.py").write_text(code)
        made.append(name)
        sys.modules.pop(name, None)
        return importlib.import_module(name)

    yield imported
    for name in made:
        sys.modules.pop(name, None)


async def test_a_web_service_answers_at_once_and_tells_how_its_work_stands(shown):
    page = "docs/guides/fastapi.md"
    service = shown(page, "web.py")
    async with Sandbox([service.export]) as sandbox, sandbox.working(), service.opened(service.app):
        transport = httpx.ASGITransport(service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            assert (await client.get("/exports/42")).status_code == 404
            begun = await client.post("/exports/42", params={"rows": 20_000})
            again = await client.post("/exports/42", params={"rows": 20_000})
            assert (begun.status_code, begun.json()) == (202, {"id": "export:42"})
            assert again.json() == begun.json()
            await sandbox.producer.job("export:42").result(timeout=30)
            assert (await client.get("/exports/42")).json() == {"state": "succeeded", "done": 1.0, "file": "20000.csv"}
    printed = {command.line.partition(" ")[0]: command.printed for command in commands(page) if command.printed}
    assert json.loads(printed["curl"]) == {"state": "succeeded", "done": 1.0, "file": "200000.csv"}


@contextlib.asynccontextmanager
async def served(answer) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (listening,) = site._server.sockets
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        await runner.cleanup()


async def test_a_model_is_asked_again_when_it_says_so_and_its_answer_comes_in_pieces(shown, monkeypatch):
    asked = []

    async def model(request: web.Request) -> web.StreamResponse:
        asked.append((await request.json())["prompt"])
        if len(asked) == 1:
            return web.Response(status=429, headers={"Retry-After": "30"})
        if asked[-1] == "forbidden":
            return web.Response(status=400, text="no")
        answer = web.StreamResponse()
        await answer.prepare(request)
        for piece in (b"to\n", b"be\n"):
            await answer.write(piece)
        return answer

    page = shown("docs/guides/model_apis.md", "ask_model.py")
    async with served(model) as url, Sandbox([page.answer], lifespans=[page.http]) as sandbox:
        monkeypatch.setenv("MODEL_API", url)
        job = await sandbox.enqueue(page.answer("acme", "what is the question?"))
        assert await sandbox.drain() == Ran(succeeded=1, retried=1, failed=0)
        assert [item.value async for item in job.stream(str)] == ["to\n", "be\n"]
        assert await job.result(timeout=10) == 2
        await sandbox.enqueue(page.answer("acme", "forbidden"))
        assert await sandbox.drain() == Ran(succeeded=0, retried=0, failed=1)
    assert asked == ["what is the question?"] * 2 + ["forbidden"]


async def test_a_customer_with_one_question_waits_for_no_others_backlog(shown, monkeypatch):
    asked = []

    async def model(request: web.Request) -> web.Response:
        asked.append((await request.json())["prompt"])
        if len(asked) == 8:  # by now all that came before waits for its moment
            await sandbox.enqueue(page.answer("small", "one question"))
        return web.Response(text="yes\n")

    page = shown("docs/guides/model_apis.md", "ask_model.py")
    async with served(model) as url, Sandbox([page.answer], lifespans=[page.http]) as sandbox:
        monkeypatch.setenv("MODEL_API", url)
        for n in range(20):
            await sandbox.enqueue(page.answer("large", f"question {n}"))
        assert (await sandbox.drain()).succeeded == 21
    assert asked.index("one question") < 15


async def test_rows_are_written_together_and_twice_is_as_once(shown, monkeypatch, tmp_path):
    monkeypatch.setenv("DATABASE", f"sqlite+aiosqlite:///{tmp_path}/meters.sqlite3")
    page = shown("docs/guides/databases.md", "meters.py")
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    readings = [page.Reading(f"meter {n % 40}", moment, float(n)) for n in range(120)]
    async with Sandbox([page.store], lifespans=[page.database]) as sandbox:
        await sandbox.producer.enqueue_many(page.store(each) for each in readings[:80])
        assert (await sandbox.drain()).succeeded == 80
        await sandbox.producer.enqueue_many(page.store(each) for each in readings[80:])
        assert (await sandbox.drain()).succeeded == 40
    with contextlib.closing(sqlite3.connect(tmp_path / "meters.sqlite3")) as database:
        rows = database.execute("SELECT meter, kwh FROM readings").fetchall()
    assert dict(rows) == {f"meter {n}": float(80 + n) for n in range(40)}
    assert len(rows) == 40


async def test_a_file_is_written_whole_and_twice_is_as_once(shown, monkeypatch, tmp_path):
    monkeypatch.setenv("STORE", str(tmp_path / "store"))
    (tmp_path / "store").mkdir()
    (tmp_path / "store/picture").write_bytes(b"0123456789")
    page = shown("docs/guides/files.md", 0)
    async with Sandbox([page.thumbnail]) as sandbox:
        made = [await sandbox.call(page.thumbnail("picture")) for _ in range(2)]
    assert made[0] == made[1]
    assert (tmp_path / "store" / made[0]).read_bytes() == b"01234"
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["picture", made[0]]


async def test_new_code_runs_the_jobs_of_old_producers(shown):
    pages = [shown("docs/guides/upgrading.md", number) for number in range(3)]
    tasks = [pages[0].invoice, pages[1].deliver_invoice, pages[2].post_invoice, pages[2]._mail_invoice]
    async with Sandbox(tasks) as sandbox:
        assert await sandbox.call(Call("invoice", 7)) == "7 in EUR"
        assert await sandbox.call(Call("send_invoice", 7)) == "7 is on its way"
        assert await sandbox.call(Call("mail_invoice", 7)) == "7 is on its way"
        await sandbox.enqueue(Call("invoice", 7, colour="red"))
        assert await sandbox.drain() == Ran(succeeded=0, retried=0, failed=1)
        assert [letter.reason async for letter in sandbox.producer.dead.iterate()] == ["arguments"]


async def test_the_upgrade_is_tried_as_the_page_says(shown):
    await asyncio.to_thread(shown, "docs/guides/upgrading.md", 3)


async def test_a_crawl_takes_a_url_of_a_page(shown):
    page = shown("docs/guides/scraping.md", 0)
    async with Sandbox([page.crawl]) as sandbox:
        assert await sandbox.call(page.crawl("https://example.org/", depth=2)) == 2
        await sandbox.enqueue(page.crawl("mailto:ada@example.org"))
        assert (await sandbox.drain()).succeeded == 0
