"""Pages stay new by themselves, and nothing the reader does is undone by that."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from common import Context, RetryPolicy, fixed, task
from common.embedded import EmbeddedServer
from producer import Producer

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Stage:
    """Lets a test say when a job goes on."""

    steps = asyncio.Event()
    end = asyncio.Event()


@task
async def in_steps(ctx: Context) -> str:
    ctx.progress(1, 2, "half of it")
    await Stage.steps.wait()
    ctx.progress(2, 2, "all of it")
    await Stage.end.wait()
    return "the end"


@pytest.fixture
def stage():
    Stage.steps.clear()
    Stage.end.clear()
    yield Stage
    Stage.steps.set()
    Stage.end.set()


async def _mark(page) -> None:
    """Leave something on the page that is gone once it is loaded again."""
    await page.evaluate("document.body.dataset.mark = 'here'")


async def _is_marked(page) -> bool:
    return await page.evaluate("document.body.dataset.mark === 'here'")


async def test_what_is_enqueued_shows_without_a_reload(producer, open_page):
    page = await open_page("/queues")
    await expect(page.locator("#live")).to_have_text("Live")
    await _mark(page)
    due = page.get_by_role("row", name="arq:queue").get_by_role("cell").first
    await expect(due).to_have_text("0")
    await producer.enqueue_many([in_steps() for _ in range(1234)])
    await expect(due).to_have_text("1,234")
    await expect(page.get_by_role("navigation").first).to_contain_text("1,234")
    assert await _is_marked(page)


async def test_charts_grow_and_tell_their_values(producer, open_page, run_worker, stage):
    page = await open_page("/")
    await producer.enqueue(in_steps())
    await run_worker(in_steps)
    chart = page.get_by_role("img", name="Queue depth")
    before = await chart.locator("path.line").first.get_attribute("d")
    await expect(chart.locator("path.line").first).not_to_have_attribute("d", before)
    figure = page.locator("#chart-due")
    await expect(figure.locator("li", has_text="running").locator("b")).to_have_text("1")
    await expect(chart).to_have_attribute("aria-label", re.compile("running 1"))
    await chart.hover(position={"x": 2, "y": 20})
    await expect(figure.locator(".at")).to_contain_text("ago")


async def test_a_job_is_followed_from_its_progress_to_its_result(producer, open_page, run_worker, stage):
    job = await producer.enqueue(in_steps())
    await run_worker(in_steps)
    page = await open_page(f"/jobs/{job.job_id}")
    await _mark(page)
    await expect(page.locator("main")).to_contain_text("half of it")
    stage.steps.set()
    await expect(page.locator("main")).to_contain_text("all of it")
    await expect(page.get_by_role("img", name="Progress 100 %")).to_be_visible()
    stage.end.set()
    await expect(page.get_by_label("Returned")).to_have_text('"the end"')
    await expect(page.locator(".state").first).to_have_text("succeeded")
    await expect(page.get_by_role("button", name="Abort")).to_have_count(0)
    assert await _is_marked(page)


@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def at_the_second_try(ctx: Context) -> None:
    if ctx.attempt == 1:
        raise ConnectionError("no route")


async def test_attempts_are_a_timeline(producer, open_page, run_worker):
    job = await producer.enqueue(at_the_second_try())
    page = await open_page(f"/jobs/{job.job_id}")
    await expect(page.locator(".timeline")).to_have_count(0)
    await run_worker(at_the_second_try)
    await expect(page.get_by_role("img", name="attempt 1 retried, attempt 2 succeeded")).to_be_visible()
    await expect(page.get_by_role("row", name="retried")).to_contain_text("ConnectionError: no route")
    await page.get_by_text("Where").click()
    await expect(page.get_by_label("Traceback of attempt 1")).to_contain_text("at_the_second_try")


async def test_focus_and_what_was_typed_stay(producer, open_page):
    page = await open_page("/queues")
    await page.get_by_label("Why").fill("half a sent")
    await page.get_by_role("button", name="Pause arq:queue").focus()
    await producer.enqueue(in_steps())
    await expect(page.get_by_role("row", name="arq:queue").get_by_role("cell").first).to_have_text("1")
    await expect(page.get_by_role("button", name="Pause arq:queue")).to_be_focused()
    await expect(page.get_by_label("Why")).to_have_value("half a sent")


async def test_the_first_news_of_a_page_replace_nothing_of_it(producer, open_page):
    typed = asyncio.Event()

    async def hold_back(route):
        if "event-stream" in route.request.headers.get("accept", ""):
            await typed.wait()
        await route.continue_()

    job = await producer.enqueue(in_steps())
    page = await open_page("/limits")
    await page.route("**/jobs/**", hold_back)
    await page.goto(f"/jobs/{job.job_id}")
    await page.get_by_label("Due in").fill("2h")
    typed.set()
    await expect(page.locator("#live")).to_have_text("Live")
    await expect(page.get_by_label("Due in")).to_have_value("2h")


async def test_a_form_that_came_with_the_stream_can_be_sent(producer, open_page):
    page = await open_page("/queues")
    await expect(page.locator("#live")).to_have_text("Live")
    await producer.pause(queue="late")
    await page.get_by_role("button", name="Resume late").click()
    await expect(page.locator("main")).to_contain_text("Resumed the queue late")


async def test_redis_may_go_and_come_back(open_page, start, tmp_path):
    with EmbeddedServer(tmp_path / "data") as server:
        url = await start(server.url)
        page = await open_page("/queues", base=url)
        await expect(page.locator("#live")).to_have_text("Live")
        await _mark(page)
        await asyncio.to_thread(server.stop)
        await expect(page.locator("#away")).to_be_visible()
        await expect(page.locator("#live")).to_have_text("Redis is away")
        fresh = await open_page("/workers", base=url)
        await expect(fresh.get_by_role("heading", level=1)).to_have_text("Nothing can be shown now")
        await asyncio.to_thread(server.start)
        await expect(fresh.get_by_role("heading", level=1)).to_have_text("Workers")
        await expect(page.locator("#away")).to_be_hidden()
        async with Producer(server.url) as producer:
            await producer.enqueue(in_steps())
        await expect(page.get_by_role("row", name="arq:queue").get_by_role("cell").first).to_have_text("1")
        assert await _is_marked(page)
