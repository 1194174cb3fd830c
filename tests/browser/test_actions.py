"""What a person does on a page is done, said, and no more than that."""

import asyncio
import json

import pytest
from playwright.async_api import expect

from common import NEVER, Context, every, task
from common.jobs import JobState

pytestmark = pytest.mark.asyncio(loop_scope="session")


@task
async def echo(ctx: Context, text: str, *, options: dict[str, str] | None = None) -> list[object]:
    return [text, options]


@task(retry=NEVER)
async def fail(ctx: Context, number: int) -> None:
    raise LookupError(f"number {number} is out of order")


@task
async def wait_for_ever(ctx: Context) -> None:
    await asyncio.Event().wait()


@every(3600)
@task(name="tidy_up")
async def tidy_up(ctx: Context) -> None: ...


def _said(page):
    return page.locator("main").get_by_role("status")


async def test_a_queue_is_paused_and_resumed(producer, open_page):
    page = await open_page("/queues")
    await page.get_by_role("button", name="Pause arq:queue").click()
    await expect(_said(page)).to_contain_text("Paused the queue arq:queue")
    (pause,) = await producer.pauses()
    assert (pause.kind, pause.name, pause.by) == ("queue", "arq:queue", "dashboard")
    await page.get_by_role("button", name="Resume arq:queue").click()
    await expect(_said(page)).to_contain_text("Resumed the queue arq:queue")
    assert await producer.pauses() == []


async def test_a_queue_is_purged_once_its_number_was_typed(producer, open_page, run_worker):
    running = await producer.enqueue(wait_for_ever())
    await run_worker(wait_for_ever)
    async with asyncio.timeout(30):
        while await running.status() is not JobState.RUNNING:
            await asyncio.sleep(0.02)
    await producer.pause(queue="arq:queue")
    due = await producer.enqueue_many([echo("now") for _ in range(3)])
    later = await producer.enqueue(echo("later"), delay=600)
    page = await open_page("/queues")
    await page.get_by_role("link", name="Purge… arq:queue").click()
    button = page.get_by_role("button", name="Purge")
    await page.locator("form.form").evaluate("form => form.noValidate = true")
    await page.get_by_label("to go on").fill("1000")
    await button.click()
    await expect(_said(page)).to_contain_text("nothing was done: 1000 was typed")
    assert await later.status() is JobState.SCHEDULED
    number = await page.locator("input[name=expected]").input_value()
    await page.get_by_label("to go on").fill(number)
    await button.click()
    await expect(_said(page)).to_contain_text("Purged: 4 jobs of arq:queue ended as cancelled")
    assert {await job.status() for job in [*due, later]} == {JobState.CANCELLED}
    assert await running.status() is JobState.RUNNING
    await producer.resume(queue="arq:queue")


async def test_a_task_is_paused_with_a_reason(producer, open_page):
    page = await open_page("/queues")
    await page.get_by_label("Task", exact=True).fill("send_mail")
    await page.get_by_label("Why").fill("<b>the mail server is down</b>")
    await page.get_by_role("button", name="Pause task").click()
    await expect(page.get_by_role("row", name="send_mail")).to_contain_text("<b>the mail server is down</b>")
    await page.get_by_role("button", name="Resume send_mail").click()
    await expect(_said(page)).to_contain_text("Resumed the task send_mail")
    assert await producer.pauses() == []


async def test_a_job_that_waits_is_put_off_and_aborted(producer, open_page):
    job = await producer.enqueue(echo("late"))
    page = await open_page(f"/jobs/{job.job_id}")
    await page.get_by_label("Due in").fill("soon")
    await page.get_by_role("button", name="Reschedule").click()
    await expect(_said(page)).to_contain_text("'soon' is no length of time")
    await page.get_by_label("Due in").fill("2h")
    await page.get_by_role("button", name="Reschedule").click()
    await expect(_said(page)).to_contain_text(f"Job {job.job_id} is due at")
    assert await job.status() is JobState.SCHEDULED
    await page.get_by_role("button", name="Abort").click()
    await expect(_said(page)).to_contain_text("is cancelled")
    assert await job.status() is JobState.CANCELLED


async def test_a_job_that_runs_is_aborted(producer, open_page, run_worker):
    job = await producer.enqueue(wait_for_ever())
    await run_worker(wait_for_ever)
    page = await open_page(f"/jobs/{job.job_id}")
    await expect(page.locator(".state").first).to_have_text("running")
    await page.get_by_role("button", name="Abort").click()
    await expect(_said(page)).to_contain_text("is cancelled")
    assert await job.status() is JobState.CANCELLED


async def test_a_job_is_edited_and_enqueued_again_with_what_was_masked(producer, open_page, run_worker):
    job = await producer.enqueue(echo("one", options={"token": "s3cret", "size": "small"}))
    await run_worker(echo)
    await job.wait(30)
    page = await open_page(f"/jobs/{job.job_id}")
    await page.get_by_role("link", name="Edit and enqueue").click()
    keywords = page.get_by_label("Keyword arguments")
    assert json.loads(await keywords.input_value()) == {"options": {"token": "***", "size": "small"}}
    await page.get_by_label("Arguments, a JSON list").fill('["two"')
    await page.get_by_role("button", name="Enqueue").click()
    await expect(_said(page)).to_contain_text("the arguments are no JSON")
    await page.get_by_label("Arguments, a JSON list").fill('["two"]')
    await keywords.fill('{"options": {"token": "***", "size": "large"}}')
    await page.get_by_role("button", name="Enqueue").click()
    await expect(_said(page)).to_contain_text("Enqueued as a new job")
    again = producer.job(page.url.rpartition("/")[2].partition("?")[0])
    assert again.job_id != job.job_id
    assert await again.result(30) == ["two", {"token": "s3cret", "size": "large"}]
    await page.goto(f"/jobs/{job.job_id}/edit")
    await keywords.fill('{"options": {"size": "***"}}')
    await page.get_by_role("button", name="Enqueue").click()
    await expect(_said(page)).to_contain_text("stands for what is not shown")


async def test_dead_letters_are_replayed_and_deleted(producer, open_page, run_worker):
    jobs = await producer.enqueue_many([fail(number) for number in range(5)])
    await run_worker(fail)
    await asyncio.gather(*(job.wait(30) for job in jobs))
    await producer.pause(task="fail")
    page = await open_page("/dead?error=LookupError")
    await expect(page.locator("tbody tr")).to_have_count(5)
    await page.get_by_role("button", name=f"Replay {jobs[0].job_id}").click()
    await expect(_said(page)).to_contain_text(f"Replayed job {jobs[0].job_id}")
    await page.get_by_role("button", name=f"Delete {jobs[1].job_id}").click()
    await expect(_said(page)).to_contain_text(f"Deleted the dead letter of job {jobs[1].job_id}")
    await page.get_by_role("link", name="Replay all that fit").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Replay 3 dead letters?")
    await page.locator("form.form").evaluate("form => form.noValidate = true")
    await page.get_by_label("Type 3 to go on").fill("4")
    await page.get_by_role("button", name="Replay 3").click()
    await expect(_said(page)).to_contain_text("nothing was done: 4 was typed, not 3")
    await page.get_by_label("Type 3 to go on").fill("3")
    await page.get_by_role("button", name="Replay 3").click()
    await expect(_said(page)).to_contain_text("Replayed 3 letters")
    assert await producer.dead.count() == 0
    assert [await job.status() for job in jobs[:1] + jobs[2:]] == [JobState.QUEUED] * 4
    assert await jobs[1].status() is JobState.FAILED


async def test_a_schedule_is_paused_resumed_and_run(producer, open_page, run_worker):
    await run_worker(tidy_up, echo)
    page = await open_page("/schedules")
    await page.get_by_role("button", name="Pause tidy_up").click()
    await expect(page.get_by_role("row", name="tidy_up")).to_contain_text("paused")
    assert (await producer.schedules.get("tidy_up")).paused_at is not None
    await page.get_by_role("button", name="Resume tidy_up").click()
    await page.get_by_role("button", name="Run now tidy_up").click()
    await expect(_said(page)).to_contain_text("Enqueued a run of the schedule tidy_up")
    await expect(page.get_by_role("heading", level=1)).to_have_text("tidy_up")
    await producer.job(page.url.rpartition("/")[2].partition("?")[0]).wait(30)


async def test_a_dashboard_for_reading_only_offers_nothing_and_refuses_all(producer, redis_url, open_page, start):
    job = await producer.enqueue(echo("one"))
    url = await start(redis_url, read_only=True)
    page = await open_page("/", base=url)
    for path in ("/queues", "/jobs", f"/jobs/{job.job_id}", f"/jobs/{job.job_id}/edit", "/schedules", "/limits"):
        await page.goto(f"{url}{path}")
        assert await page.locator("form[method=post]").count() == 0, path
    answer = await page.request.post(f"{url}/queues/arq%3Aqueue/pause", form={"csrf": "x"})
    assert answer.status == 403
    await page.get_by_role("button", name="Dark").click()
    await expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    assert await producer.pauses() == []
    assert await job.status() is JobState.QUEUED
