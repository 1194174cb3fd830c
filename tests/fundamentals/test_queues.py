"""Jobs can go to queues of their own, and a worker can serve several."""

from common import Context, task

ran: list[str] = []


@task(queue="mail")
async def send(ctx: Context, to: str) -> str:
    ran.append(to)
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
