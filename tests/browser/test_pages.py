"""Every page, as people meet it: in both themes, on a phone, by keyboard alone, and without a script."""

import asyncio

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from common import NEVER, ConcurrencyLimit, Context, RateLimit, every, task
from common.jobs import JobState
from dashboard.routing import path_to

pytestmark = pytest.mark.asyncio(loop_scope="session")

_HOSTILE = "<script>alert(1)</script> \u202egnp.exe \x1b[31m"
_ODD_ID = "päck/1?a=b#c%2F\"'<i>&"

_GO_ON = asyncio.Event()

_REACHABLE = """
() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, [tabindex='0']")]
  .filter((each) => !each.classList.contains("skip")).map((each) => each.textContent.trim() || each.name)
"""

_FOCUSED = """
() => {
  const each = document.activeElement;
  return [each.textContent.trim() || each.name, getComputedStyle(each).outlineWidth];
}
"""


@task(limits=[RateLimit(1000, per=1, key="host"), ConcurrencyLimit(5)])
async def fetch(ctx: Context, host: str, *, token: str = "") -> str:
    return f"fetched from {host}"


@task(retry=NEVER)
async def fail(ctx: Context, why: str) -> None:
    raise ValueError(why)


@task
async def take_long(ctx: Context) -> None:
    ctx.progress(3, 10, "three of ten")
    await _GO_ON.wait()


@every(3600)
@task(name="tidy")
async def tidy(ctx: Context) -> None: ...


@pytest_asyncio.fixture(loop_scope="session")
async def jobs(producer, run_worker):
    """Some of everything there is to show."""
    _GO_ON.clear()
    await producer.pause(queue="low", reason="the mail server is down", by="ada")
    await producer.pause(task="send_mail", reason="likewise", by="ada")
    await run_worker(fetch, fail, take_long, tidy)
    fetched = await producer.enqueue(fetch("example.com", token="t0p-secret"), job_id=_ODD_ID)
    dead = await producer.enqueue(fail(_HOSTILE))
    running = await producer.enqueue(take_long())
    await producer.enqueue(fetch("example.com"), delay=3600)
    await fetched.wait(30)
    await dead.wait(30)
    async with asyncio.timeout(30):
        while await running.status() is not JobState.RUNNING or await running.progress() is None:
            await asyncio.sleep(0.02)
    yield {"fetched": fetched, "dead": dead, "running": running}
    _GO_ON.set()
    await running.wait(30)


def _paths(jobs) -> list[str]:
    fetched, dead, running = (path_to("/jobs/{job_id}", job_id=job.job_id) for job in jobs.values())
    of_dead = ["/dead", "/dead/all/delete?task=fail", "/dead?older=yesterday"]
    of_jobs = ["/jobs", "/jobs?id=nobody", f"{fetched}/edit", "/jobs/nobody", fetched, dead]
    return [
        "/",
        "/queues",
        "/queues/arq%3Aqueue/purge",
        "/workers",
        "/schedules",
        "/limits",
        *of_dead,
        *of_jobs,
        running,
    ]


async def test_no_page_keeps_anybody_out_in_either_theme(jobs, open_page):
    found, page = [], await open_page("/")
    for path in _paths(jobs):
        await page.emulate_media(color_scheme="light")
        await page.goto(path)
        told = (await Axe().run(page)).response["violations"]
        await page.emulate_media(color_scheme="dark")
        told += (await page.evaluate("axe.run({runOnly: ['color-contrast']})"))["violations"]
        found += [f"{path}: {each['id']}: {node['html'][:200]}" for each in told for node in each["nodes"]]
    assert found == []


async def test_no_page_scrolls_sideways_on_a_phone(jobs, open_page):
    page = await open_page("/", phone=True)
    for path in _paths(jobs):
        await page.goto(path)
        widths = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], path


async def test_what_jobs_bring_along_is_shown_and_not_obeyed(jobs, open_page):
    page = await open_page(f"/jobs/{jobs['dead'].job_id}")
    shown = await page.inner_text("main")
    assert "<script>alert(1)</script>" in shown
    assert "\\u202egnp.exe \\x1b[31m" in shown
    assert await page.locator("main script").count() == 0


async def test_what_is_secret_is_masked_on_every_page(jobs, open_page):
    page = await open_page("/")
    for path in _paths(jobs):
        shown = await (await page.request.get(path)).text()
        assert "</html>" in shown, path
        assert "t0p-secret" not in shown, path
    await page.goto(path_to("/jobs/{job_id}", job_id=_ODD_ID))
    await expect(page.get_by_label("Called as")).to_have_text('fetch("example.com", token="***")')


async def test_an_id_may_be_anything(jobs, open_page):
    page = await open_page("/jobs?task=fetch&state=succeeded")
    await page.get_by_role("link", name=_ODD_ID[:8]).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("fetch")
    await expect(page.get_by_label("Returned")).to_have_text('"fetched from example.com"')


async def test_jobs_are_searched_by_what_is_known_of_them(jobs, open_page):
    page = await open_page("/jobs")
    search = page.get_by_role("search")
    await search.get_by_label("Text of error").fill("alert(1)")
    await search.get_by_role("button", name="Search").click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.locator("tbody tr")).to_contain_text("fail")
    await page.get_by_role("link", name="Clear").click()
    await search.get_by_label("Id").fill(jobs["running"].job_id)
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.locator("tbody tr")).to_contain_text("three of ten")


async def test_all_of_a_page_can_be_had_by_keyboard(jobs, open_page):
    page = await open_page("/queues")
    await page.keyboard.press("Tab")
    await expect(page.locator(":focus")).to_have_text("Skip to content")
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()
    await page.goto("/queues")
    # What there is to reach depends on what workers report, which takes a second to be told and drawn.
    for words in ("Jobs 1", "Workers 1", "Dead letters 1"):
        await expect(page.get_by_role("link", name=words)).to_be_visible()
    await expect(page.get_by_role("row", name="arq:queue").get_by_role("cell").nth(2)).to_have_text("1")
    wanted, reached = await page.evaluate(_REACHABLE), []
    for _ in range(len(wanted) + 1):  # the link that skips first
        await page.keyboard.press("Tab")
        name, width = await page.evaluate(_FOCUSED)
        assert width != "0px", f"no outline around {name}"
        reached.append(name)
    assert sorted(reached[1:]) == sorted(wanted)
    await page.get_by_role("row", name="low").get_by_role("button").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("main").get_by_role("status")).to_contain_text("Resumed the queue low")


async def test_without_a_script_everything_is_there_and_can_be_done(jobs, producer, open_page):
    page = await open_page("/", script=False)
    await expect(page.get_by_role("img", name="Throughput")).to_be_visible()
    await page.get_by_role("link", name="Queues").click()
    await page.get_by_role("row", name="arq:queue").get_by_role("button", name="Pause").click()
    await expect(page.locator("main")).to_contain_text("Paused the queue arq:queue")
    assert {pause.name for pause in await producer.pauses()} == {"low", "send_mail", "arq:queue"}
    await page.reload()
    await expect(page.locator("main")).not_to_contain_text("Paused the queue arq:queue")


async def test_who_prefers_a_theme_has_it_on_all_pages(open_page):
    page = await open_page("/queues?x=1", dark=False)
    light, whole = "rgb(246, 247, 248)", page.locator("html")
    await expect(whole).to_have_css("background-color", light)
    await page.get_by_role("button", name="Dark").click()
    await expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    assert page.url.endswith("/queues?x=1")
    await page.goto("/workers")
    await expect(whole).to_have_css("background-color", "rgb(16, 21, 26)")
    await page.get_by_role("button", name="Auto").click()
    await expect(whole).to_have_css("background-color", light)


async def test_an_empty_fleet_says_what_to_do(open_page):
    page = await open_page("/")
    await expect(page.get_by_role("heading", name="Nothing runs here yet")).to_be_visible()
    for path, said in [
        ("/jobs", "barque enqueue"),
        ("/workers", "barque worker"),
        ("/schedules", "@cron("),
        ("/limits", "RateLimit("),
        ("/dead", "BARQUE_DEAD_KEEP"),
    ]:
        await page.goto(path)
        await expect(page.locator(".empty")).to_contain_text(said)
