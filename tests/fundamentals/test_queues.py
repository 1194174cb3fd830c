"""Jobs can go to queues of their own, and a worker can serve several."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from common import Context, task
from common.errors import ConfigurationError

ran: list[str] = []


@task(queue="mail")
async def send(ctx: Context, to: str) -> str:
    ran.append(to)
    await asyncio.sleep(0.006)  # shorter ones are claimed several at a time, those of a queue one after the other
    return ctx.queue


async def test_a_task_may_have_a_queue_of_its_own_and_a_job_another(producer, run_worker):
    await run_worker(send, queues=("mail", "urgent"))
    own = await producer.enqueue(send("a"))
    other = await producer.enqueue(send("b"), queue="urgent")
    assert (own.queue, other.queue) == ("mail", "urgent")
    assert await own.result(timeout=10) == "mail"
    assert await other.result(timeout=10) == "urgent"


async def test_a_worker_serves_its_first_queue_first(producer, run_worker):
    ran.clear()
    low = [await producer.enqueue(send(f"low {n}"), queue="low") for n in range(3)]
    high = [await producer.enqueue(send(f"high {n}"), queue="high") for n in range(3)]
    await run_worker(send, queues=("high", "low"), max_jobs=1)
    for job in [*low, *high]:
        await job.wait(timeout=10)
    assert ran == ["high 0", "high 1", "high 2", "low 0", "low 1", "low 2"]


async def test_a_worker_leaves_other_queues_alone(producer, run_worker):
    await run_worker(send, queues=("mail",))
    elsewhere = await producer.enqueue(send("x"), queue="elsewhere")
    await (await producer.enqueue(send("y"))).result(timeout=10)
    assert not (await elsewhere.status()).ended
    assert await elsewhere.abort()


async def backlog(producer, **counts: int) -> list:
    return [await producer.enqueue(send(queue), queue=queue) for queue, count in counts.items() for _ in range(count)]


async def started(jobs, count: int) -> list[str]:
    """Return the queues of the first so many jobs to start."""
    for job in jobs:
        await job.wait(timeout=10)
    return ran[:count]


async def test_queues_may_have_weights(producer, run_worker):
    ran.clear()
    jobs = await backlog(producer, low=40, default=40, high=40)
    await run_worker(send, queues={"high": 6, "default": 3, "low": 1}, max_jobs=1)
    first = await started(jobs, 50)
    assert first.count("high") == pytest.approx(30, abs=2)
    assert first.count("default") == pytest.approx(15, abs=2)
    assert first.count("low") == pytest.approx(5, abs=2)


async def test_what_an_empty_queue_leaves_goes_to_the_others(producer, run_worker):
    ran.clear()
    jobs = await backlog(producer, low=40, default=40)
    await run_worker(send, queues={"high": 6, "default": 3, "low": 1}, max_jobs=1)
    assert (await started(jobs, 40)).count("default") == pytest.approx(30, abs=2)


async def test_a_lower_queue_is_served_all_the_same_once_its_jobs_have_waited_for_long(
    producer, run_worker, monkeypatch
):
    monkeypatch.setenv("BARQUE_QUEUE_AGING", "5m")
    ran.clear()
    long_ago = datetime.now(tz=UTC) - timedelta(minutes=10)
    low = await producer.enqueue_many([send("low") for _ in range(20)], queue="low", at=long_ago)
    high = await producer.enqueue_many([send("high") for _ in range(100)], queue="high")
    await run_worker(send, queues=("high", "low"), max_jobs=1)
    assert (await started([*low, *high], 100)).count("low") == pytest.approx(10, abs=2)


async def test_weights_are_whole_numbers_from_one_up(run_worker):
    with pytest.raises(ConfigurationError, match=r"'low': 0 is no weight.* leave it out"):
        await run_worker(send, queues={"high": 6, "low": 0})


async def test_an_idle_worker_is_woken_by_each_of_its_queues(producer, run_worker):
    await run_worker(send, queues={"high": 6, "low": 1}, poll_delay=3600)
    for queue in ("low", "high", "low"):
        assert await (await producer.enqueue(send("x"), queue=queue)).result(timeout=10) == queue


async def test_queue_name_is_the_one_queue_as_in_arq(producer, run_worker):
    worker = await run_worker(send, queue_name="mail")
    assert worker.queues == ("mail",)
    assert await (await producer.enqueue(send("a"))).result(timeout=10) == "mail"
