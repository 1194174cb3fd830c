"""A job id of your own makes an enqueue happen once."""

import asyncio

import pytest

from common import Context, task
from common.jobs import JobState

ran: list[str] = []


@task
async def send_invoice(ctx: Context, order: str) -> int:
    ran.append(order)
    return len(ran)


@pytest.fixture(autouse=True)
def nothing_ran_yet():
    ran.clear()


async def test_a_second_enqueue_of_an_id_gives_the_job_that_is_there(producer, run_worker):
    first = await producer.enqueue(send_invoice("17"), job_id="invoice:17")
    second = await producer.enqueue(send_invoice("17"), job_id="invoice:17")
    assert (first.is_new, second.is_new) == (True, False)
    assert second.job_id == "invoice:17"
    await run_worker(send_invoice)
    assert await second.result(timeout=10) == 1
    assert ran == ["17"]


async def test_of_many_at_once_one_is_added(producer, run_worker):
    jobs = await asyncio.gather(*(producer.enqueue(send_invoice("17"), job_id="invoice:17") for _ in range(50)))
    assert [job.is_new for job in jobs].count(True) == 1
    await run_worker(send_invoice)
    assert {await job.result(timeout=10) for job in jobs} == {1}


async def test_the_id_is_taken_while_the_result_is_kept_and_free_afterwards(producer, run_worker):
    await run_worker(send_invoice, keep_result=0.05)
    job = await producer.enqueue(send_invoice("17"), job_id="invoice:17")
    await job.result(timeout=10)
    while await job.status() is not JobState.UNKNOWN:
        pass
    again = await producer.enqueue(send_invoice("17"), job_id="invoice:17")
    assert again.is_new
    assert await again.result(timeout=10) == 2


async def test_without_one_every_job_has_an_id_that_sorts_by_time(producer, run_worker):
    jobs = await producer.enqueue_many(send_invoice(str(n)) for n in range(100))
    ids = [job.job_id for job in jobs]
    assert ids == sorted(ids)
    await run_worker(send_invoice, max_jobs=1)
    await jobs[-1].wait(timeout=10)
    assert ran == [str(n) for n in range(100)], "one worker with one slot runs them in their order"
