"""The programs in examples/: their tasks, run by a sandbox against stand-ins of what they talk to."""

import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
from aiohttp import web

from common.errors import JobCancelled
from examples import model_api, nightly_report, polite_crawler, web_service, webhook_sender
from workers.testing import Ran, Sandbox


@asynccontextmanager
async def served(answer: Callable) -> AsyncIterator[str]:
    """Answer every request on a port of this machine with this function."""
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (listening,) = site._server.sockets
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        await runner.cleanup()


class TestWebhookSender:
    async def test_a_delivery_is_tried_until_the_customer_is_back(self):
        seen = []

        async def customer(request: web.Request) -> web.Response:
            seen.append((request.headers["X-Delivery"], request.headers["X-Signature"], await request.json()))
            return web.Response(status=204 if len(seen) == 4 else 500)

        async with (
            served(customer) as url,
            Sandbox([webhook_sender.deliver], lifespans=[webhook_sender.http]) as sandbox,
        ):
            delivery = webhook_sender.Delivery(f"{url}/hook", "order.paid", 42)
            job = await sandbox.enqueue(webhook_sender.deliver(delivery), job_id="order.paid:42")
            assert await sandbox.drain() == Ran(succeeded=1, retried=3, failed=0)
            assert await job.result(timeout=10) == 204
        assert len(set(map(repr, seen))) == 1
        assert seen[0][0] == "order.paid:42"
        assert seen[0][2] == {"event": "order.paid", "order": 42}

    async def test_an_endpoint_that_is_gone_is_asked_once(self):
        asked = Counter()

        async def gone(request: web.Request) -> web.Response:
            asked[request.path] += 1
            return web.Response(status=410)

        async with served(gone) as url, Sandbox([webhook_sender.deliver], lifespans=[webhook_sender.http]) as sandbox:
            job = await sandbox.enqueue(webhook_sender.deliver(webhook_sender.Delivery(f"{url}/hook", "x", 1)))
            await sandbox.drain()
            assert (await job.info()).state == "cancelled"
            assert isinstance(await caught(job), JobCancelled)
        assert asked == {"/hook": 1}

    async def test_a_customer_who_is_down_for_days_is_a_dead_letter(self):
        async def down(_: web.Request) -> web.Response:
            return web.Response(status=500)

        async with served(down) as url, Sandbox([webhook_sender.deliver], lifespans=[webhook_sender.http]) as sandbox:
            await sandbox.enqueue(webhook_sender.deliver(webhook_sender.Delivery(url, "x", 1)))
            ran = await sandbox.advance(days=2)
            assert (ran.succeeded, ran.failed) == (0, 1)
            assert ran.retried > 5
            assert await sandbox.producer.dead.count() == 1


async def caught(job) -> BaseException | None:
    try:
        await job.result(timeout=10)
    except Exception as error:
        return error
    return None


PAGES = {
    "/": '<a href="/a">a</a> <a href="/b#part">b</a> <a href="/secret">s</a> <a href="https://elsewhere.example/">e</a>',
    "/a": '<a href="/">back</a> <a href="/b">b</a>',
    "/b": '<a href="/deep">deep</a>',
    "/deep": "",
    "/secret": "",
}


class TestPoliteCrawler:
    async def test_each_page_is_fetched_once_and_none_that_is_not_wanted(self):
        asked = Counter()

        async def site(request: web.Request) -> web.Response:
            if request.path == "/robots.txt":
                return web.Response(text="User-agent: *\nDisallow: /secret\n")
            asked[request.path] += 1
            return web.Response(text=PAGES[request.path], content_type="text/html")

        resources = [polite_crawler.http, polite_crawler.enqueuing]
        async with served(site) as url, Sandbox([polite_crawler.crawl], lifespans=resources) as sandbox:
            job = await sandbox.enqueue(polite_crawler.crawl(f"{url}/", depth=1))
            ran = await sandbox.drain()
            assert await job.result(timeout=10) == 3
            assert asked == {"/": 1, "/a": 1, "/b": 1}
            assert (ran.succeeded, ran.failed) == (3, 1)  # /secret was discarded


class TestModelApi:
    async def test_nobody_waits_for_anothers_backlog_and_a_429_is_heeded(self, monkeypatch):
        served_to, late = [], []

        async def api(request: web.Request) -> web.Response:
            question = await request.json()
            if len(served_to) == 3 and not told:
                told.append(1)
                return web.Response(status=429, headers={"Retry-After": "30"})
            served_to.append(question["customer"])
            if len(served_to) == 8:  # by now all that came before waits for its moment
                late.append(await box.enqueue(model_api.complete("small", "one question")))
            return web.json_response({"text": question["prompt"].upper()})

        told: list[int] = []
        async with served(api) as url, Sandbox([model_api.complete], lifespans=[model_api.http]) as box:
            monkeypatch.setenv("MODEL_API", url)
            for n in range(20):
                await box.enqueue(model_api.complete("large", f"question {n}"))
            assert (await box.drain()).succeeded == 21
            (job,) = late
            assert await job.result(timeout=10) == "ONE QUESTION"
        assert told
        assert served_to.index("small") < 15
        assert len(served_to) == 21


class TestNightlyReport:
    async def test_each_night_has_a_report_of_the_day_before(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SHOP_DATABASE", str(tmp_path / "shop.sqlite3"))
        monkeypatch.setenv("REPORTS", str(tmp_path / "reports"))
        async with Sandbox([nightly_report.report_of_yesterday]) as sandbox:
            here = sandbox.now.astimezone(ZoneInfo(nightly_report.ZONE))
            first = here.date() if here.hour >= 3 else here.date() - timedelta(days=1)
            with sqlite3.connect(tmp_path / "shop.sqlite3") as database:
                database.execute("CREATE TABLE sales (day TEXT, article TEXT, cents INTEGER)")
                rows = [(first.isoformat(), "tea", 250), (first.isoformat(), "tea", 250), ("1999-12-31", "tea", 1)]
                database.executemany("INSERT INTO sales VALUES (?, ?, ?)", rows)
            database.close()
            ran = await sandbox.advance(days=3)
            assert ran.failed == 0
        reports = sorted(path.name for path in (tmp_path / "reports").iterdir())
        assert reports[:2] == [f"{first}.csv", f"{first + timedelta(days=1)}.csv"]
        assert len(reports) == ran.succeeded
        assert datetime.fromisoformat(reports[-1].removesuffix(".csv"))
        assert (tmp_path / "reports" / f"{first}.csv").read_text().split() == ["article,cents", "tea,500"]


class TestWebService:
    async def test_progress_is_told_while_it_runs_and_the_result_after(self):
        async with Sandbox([web_service.export]) as sandbox, sandbox.working(), web_service.lifespan(web_service.app):
            transport = httpx.ASGITransport(web_service.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                job_id = (await client.post("/exports", params={"rows": 30_000})).json()["id"]
                events = (await client.get(f"/exports/{job_id}/events", timeout=60)).text
                told = [json.loads(line[6:]) for line in events.splitlines() if line.startswith('data: {"done')]
                assert told[-1] == {"done": 30_000, "total": 30_000}
                assert events.endswith("event: end\ndata: {}\n\n")
                assert (await client.get(f"/exports/{job_id}")).json() == {"state": "succeeded", "rows": 30_000}
                assert (await client.get("/exports/nothing")).status_code == 404
                assert (await client.get("/exports/nothing/events")).status_code == 404
