"""The Barque side of the pages for who comes from Celery or RQ, and the patterns of docs/delivery.md, as written."""

import asyncio
import importlib
import re
import runpy
import sqlite3
import sys

import pytest

from common import Context, Task
from tests.support.page_blocks import blocks
from workers.testing import Sandbox


def modules_of(page: str) -> dict[str, str]:
    """Return a page's Python examples, by the file that the page says one is, or by the line it stands at."""
    return {
        block.file.removesuffix(".py") if block.file else f"line_{block.line}": block.code
        for block in blocks("python")
        if block.page == page
    }


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Write a page's examples where they can be imported, and make that the folder they work in."""
    written = []

    def write(name):
        modules = modules_of(name)
        for module, code in modules.items():
            (tmp_path / f"{module}.py").write_text(code)
            sys.modules.pop(module, None)
        written.extend(modules)
        return modules

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield write
    for module in written:
        sys.modules.pop(module, None)


def script_in(modules: dict[str, str]) -> str:
    """Return the name of the example that is a script for synchronous code."""
    [name] = [name for name, code in modules.items() if "with BlockingProducer()" in code]
    return name


@pytest.mark.parametrize(
    ("name", "tasks", "said", "delayed"),
    [
        ("docs/migrating/celery.md", "shop_tasks", "receipt of order 7", {"receipt-8"}),
        ("docs/migrating/rq.md", "reports", "3 pages for acme", {"acme-4"}),
    ],
)
async def test_what_synchronous_code_enqueues_and_waits_for(page, capsys, tmp_path, name, tasks, said, delayed):
    script = script_in(page(name))
    module = importlib.import_module(tasks)
    [of_the_page] = [value for value in vars(module).values() if isinstance(value, Task)]
    async with Sandbox([of_the_page], queues=["arq:queue", "low"]) as sandbox:
        async with sandbox.working():
            await asyncio.to_thread(runpy.run_path, str(tmp_path / f"{script}.py"))
        assert capsys.readouterr().out.strip() == said
        assert delayed <= {job.job_id for job in await sandbox.waiting()}
        assert (await sandbox.drain()).failed == 0


async def test_a_parcel_is_asked_after_until_it_has_come(page):
    modules = page("docs/migrating/celery.md")
    [name] = [name for name, code in modules.items() if "def poll_parcel" in code]
    poll = importlib.import_module(name).poll_parcel
    async with Sandbox([poll]) as sandbox:
        job = await sandbox.enqueue(poll("P1"))
        assert (await sandbox.drain()).retried == 2
        assert await job.result(timeout=10) == "P1 has arrived"


async def test_retries_wait_as_rqs_intervals_say(page):
    page("docs/migrating/rq.md")
    policy = importlib.import_module("reports").build_report.options.retry
    assert policy.max_attempts == 4
    assert [policy.backoff(attempt) for attempt in (1, 2, 3)] == [10, 30, 60]


@pytest.mark.parametrize(
    ("name", "schedules"),
    [("docs/migrating/celery.md", {"nightly", "often"}), ("docs/migrating/rq.md", {"nightly-acme"})],
)
async def test_what_beat_did_workers_do(page, name, schedules):
    modules = page(name)
    [module] = [found for found, code in modules.items() if re.search(r"^schedule\(", code, re.MULTILINE)]
    importlib.import_module(module)
    async with Sandbox() as sandbox:
        assert (await sandbox.advance(seconds=61)).failed == 0
        found = await sandbox.producer.schedules.list()
        assert {schedule.name for schedule in found} == schedules
        assert all(schedule.next_run for schedule in found)
        assert all(schedule.last_run_at for schedule in found if schedule.name == "often")


async def test_a_chain_and_a_chord(page):
    page("docs/migrating/celery.md")
    flows = importlib.import_module("flows")
    tasks = [flows.fetch, flows.store, flows.fetch_then_store, flows.sum_up]
    async with Sandbox(tasks, lifespans=[flows.jobs]) as sandbox, sandbox.working():
        chord = await sandbox.enqueue(flows.sum_up([1, 2, 3]))
        assert await chord.result(timeout=30) == "stored 60"
        jobs = {job.job_id for job in (await sandbox.producer.jobs(state="succeeded")).jobs}
        again = Context(job_id=chord.job_id, attempt=2, resources={flows.jobs: sandbox.producer})
        assert await flows.sum_up.function(again, [1, 2, 3]) == "stored 60"  # as when its worker had died at the end
        assert {job.job_id for job in (await sandbox.producer.jobs(state="succeeded")).jobs} == jobs
        assert len(jobs) == 5
        chain = await sandbox.enqueue(flows.fetch_then_store(4))
        await chain.result(timeout=30)
        assert await sandbox.producer.job(f"{chain.job_id}:store").result(timeout=30) == "stored 40"


async def test_a_job_that_follows_another(page):
    page("docs/migrating/rq.md")
    flow = importlib.import_module("report_flow")
    async with Sandbox([flow.mail, flow.build_and_mail], lifespans=[flow.jobs]) as sandbox:
        first = await sandbox.enqueue(flow.build_and_mail("acme"))
        await sandbox.drain()
        assert await sandbox.producer.job(f"{first.job_id}:mail").result(timeout=10) == "mailed: 1 page for acme"


async def test_a_second_attempt_pays_nothing_in(page):
    """As when the worker died between the commit and the outcome: the whole function runs again under the same id."""
    page("docs/delivery.md")
    pay_in = importlib.import_module("payments").pay_in
    assert await pay_in.function(Context(job_id="one"), "ada", 500) == 500
    assert await pay_in.function(Context(job_id="two"), "ada", 300) == 800
    assert await pay_in.function(Context(job_id="one", attempt=2), "ada", 500) == 500
    both = await asyncio.gather(*(pay_in.function(Context(job_id="three"), "ada", 100) for _ in range(2)))
    assert both == [900, 900]
    with sqlite3.connect("payments.sqlite3") as database:
        assert database.execute("SELECT cents FROM accounts").fetchall() == [(900,)]


async def test_what_a_transaction_left_in_the_outbox_becomes_one_job(page):
    page("docs/delivery.md")
    outbox = importlib.import_module("outbox")
    with sqlite3.connect("shop.sqlite3") as database:
        database.execute(outbox.SCHEMA)
        database.execute("INSERT INTO outbox VALUES (1, 'ada')")
        database.commit()
        database.execute("INSERT INTO outbox VALUES (2, 'rolled back')")
        database.rollback()
    async with Sandbox([outbox.welcome, outbox.carry_over], lifespans=[outbox.jobs]) as sandbox:
        await sandbox.advance(seconds=3)
        assert await sandbox.producer.job("outbox-1").result(timeout=10) == "welcomed ada"
        # As when the worker died between the enqueue and the delete: the row is there still.
        with sqlite3.connect("shop.sqlite3") as database:
            database.execute("INSERT INTO outbox VALUES (1, 'ada')")
        again = await sandbox.call(outbox.carry_over())
        assert again == 1
        assert await sandbox.waiting(outbox.welcome) == []
