"""docs/migrating/arq.md, run: its code is the same before and after, on arq's worker and on Barque's, in either form.

What both workers do in general is held by the other files of this folder; here it is the page's own text that runs.
"""

import asyncio
import importlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from arq import func

from tests.support.page_blocks import ROOT, blocks

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:wake:*", "barque:dead*", "barque:attempts:*")

PAGE = "docs/migrating/arq.md"
ARQ = Path(sys.executable).with_name("arq")
CHARGED = "order 7: 2.50 EUR"


MODULES = {block.file.removesuffix(".py"): block.code for block in blocks("python") if block.page == PAGE}


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page's files, importable; where their server is, each test says."""
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
        sys.modules.pop(name, None)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ENGINE", "arq")  # nothing of this process is to be rebound
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def charge_of(page):
    def find(module):
        return importlib.import_module(module)

    return find


@pytest.mark.parametrize("module", ["orders_before", "orders"])
async def test_the_module_does_the_same_on_both_workers_before_and_after(make_worker, arq_redis, charge_of, module):
    settings = charge_of(module).WorkerSettings
    job = await arq_redis.enqueue_job("charge", 7, cents=250)
    worker = make_worker(settings.functions, on_startup=settings.on_startup)
    await worker.async_run()
    assert await job.result(timeout=10) == CHARGED
    assert (worker.jobs_complete, worker.jobs_retried, worker.jobs_failed) == (1, 1, 0)


def test_the_two_modules_differ_by_what_the_page_says():
    before = MODULES["orders_before"].splitlines()
    after = MODULES["orders"].splitlines()
    assert [line for line in before if line not in after] == []
    assert [line for line in after if line and line not in before] == [
        "import os",
        "from workers import install",
        'if os.environ.get("ENGINE", "barque") == "barque":',
        "    install()",
    ]


@pytest.mark.parametrize("engine_variable", ["barque", "arq"])
async def test_the_variable_says_which_worker_arqs_command_line_starts(page, redis_url, arq_redis, engine_variable):
    """One image, either worker: a job that one of them was stopped with is any other's to run."""
    job = await arq_redis.enqueue_job("charge", 7, cents=250)
    (page / "orders.py").write_text(
        MODULES["orders"].replace("RedisSettings()", f"RedisSettings.from_dsn({redis_url!r})")
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
    process = await asyncio.create_subprocess_exec(
        *(ARQ, "orders.WorkerSettings", "--burst"),
        cwd=page,
        env=environment
        | {"PYTHONPATH": f"{ROOT}{os.pathsep}{page}", "ENGINE": engine_variable, "BARQUE_ACCEPT_PICKLE": "true"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(30):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert await job.result(timeout=10) == CHARGED
    assert (b"job_succeeded" in said) == (engine_variable == "barque"), said.decode()


async def test_producers_move_to_msgpack_one_by_one_and_workers_read_both(
    make_worker_of, running, arq_redis, redis_settings, redis_url, charge_of, monkeypatch, capsys
):
    settings = charge_of("orders").WorkerSettings
    pickled = await arq_redis.enqueue_job("charge", 7, cents=250)
    monkeypatch.setenv("BARQUE_REDIS_URL", redis_url)
    sell = charge_of("sell")
    monkeypatch.setattr(sell, "RedisSettings", lambda: redis_settings)
    async with running(make_worker_of("barque", settings.functions, on_startup=settings.on_startup)):
        await sell.main()
        await charge_of("sell_on_barque").main()
        assert await pickled.result(timeout=10, poll_delay=0.01) == CHARGED
    assert capsys.readouterr().out.splitlines() == [CHARGED, CHARGED]


async def test_pickles_that_are_left_are_counted(
    arq_redis, msgpack_redis, redis_settings, charge_of, monkeypatch, capsys
):
    await arq_redis.enqueue_job("charge", 1, cents=1, _defer_by=3600, _job_id="one")
    await arq_redis.enqueue_job("charge", 2, cents=1, _defer_by=3600, _job_id="two")
    await msgpack_redis.enqueue_job("charge", 3, cents=1, _defer_by=3600, _job_id="three")
    counting = charge_of("count_pickles")
    monkeypatch.setattr(counting, "RedisSettings", lambda: redis_settings)
    await counting.main()
    assert capsys.readouterr().out.strip() == "2 pickled jobs"
    await arq_redis.flushdb()


async def test_a_pickle_after_the_setting_is_gone_fails_with_its_name(
    make_worker_of, arq_redis, charge_of, monkeypatch
):
    settings = charge_of("orders").WorkerSettings
    job = await arq_redis.enqueue_job("charge", 7, cents=250)
    monkeypatch.delenv("BARQUE_ACCEPT_PICKLE")
    worker = make_worker_of("barque", settings.functions, on_startup=settings.on_startup)
    await worker.async_run()
    assert worker.jobs_failed == 1
    with pytest.raises(Exception, match="BARQUE_ACCEPT_PICKLE"):
        await job.result(timeout=10)


async def test_a_task_of_the_same_name_takes_over_what_waits(make_worker_of, arq_redis, charge_of):
    job = await arq_redis.enqueue_job("charge", 7, cents=250)
    tasks = charge_of("orders_on_barque")
    worker = make_worker_of("barque", [tasks.charge], on_startup=charge_of("orders").open_shop)
    await worker.async_run()
    assert await job.result(timeout=10) == CHARGED
    assert (worker.jobs_complete, worker.jobs_retried) == (1, 1)


async def test_going_back_a_stock_worker_reads_what_was_enqueued_for_barque(make_worker_of, msgpack_redis, charge_of):
    """With the serializers that the page names."""
    settings = charge_of("orders_before").WorkerSettings
    job = await msgpack_redis.enqueue_job("charge", 7, cents=250)
    pair = {"job_serializer": msgpack_redis.job_serializer, "job_deserializer": msgpack_redis.job_deserializer}
    await make_worker_of("arq", settings.functions, on_startup=settings.on_startup, **pair).async_run()
    assert await job.result(timeout=10) == CHARGED


async def test_what_becomes_of_arguments_that_are_not_plain(make_worker_of, msgpack_redis):
    """As the page says it of the serializer it names."""
    seen = []

    async def look(ctx, *values):
        seen.extend(values)

    at = datetime(2026, 1, 1, tzinfo=UTC)
    await msgpack_redis.enqueue_job("look", (1, 2), {3}, at, {4: 5})
    await make_worker_of("barque", [func(look, name="look")]).async_run()
    assert seen == [[1, 2], [3], at, {4: 5}]
    with pytest.raises(Exception, match="serialize"):
        await msgpack_redis.enqueue_job("look", object())
