"""A job that failed for good leaves a dead letter: to look at, to replay, to delete."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from common import Call, Context, RetryPolicy, fixed, task
from common.errors import ConfigurationError, JobNotFound, TaskFailed, TaskTimedOut
from common.jobs import JobState

pytestmark = pytest.mark.leaves_keys("arq:result:*", "arq:job:*", "arq:queue", "barque:wake:*")

bank = {"answers": False}


@pytest.fixture(autouse=True)
def no_bank_answers():
    bank["answers"] = False


@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def charge(ctx: Context, customer: str, *, amount: int = 1) -> str:
    if not bank["answers"]:
        raise ConnectionError(f"the bank does not answer {customer}")
    return f"{customer} paid {amount} in attempt {ctx.attempt}"


@task(retry=RetryPolicy(max_attempts=1))
async def refund(ctx: Context, customer: str) -> None:
    raise LookupError(customer)


@task(timeout=0.01, retry=RetryPolicy(max_attempts=1))
async def too_slow(ctx: Context) -> None:
    await asyncio.sleep(60)


async def fail(producer, *calls, **options):
    """Enqueue calls and wait until they have failed for good, one after the other."""
    jobs = []
    for call in calls:
        job = await producer.enqueue(call, **options)
        with pytest.raises(TaskFailed):
            await job.result(timeout=10)
        jobs.append(job)
    return jobs


async def test_a_job_that_failed_for_good_is_kept_with_all_that_is_known(run_worker, producer):
    await run_worker(charge)
    (job,) = await fail(producer, charge("Ada", amount=5), metadata={"order": 7})
    letter = await producer.dead.get(job.job_id)
    assert (letter.task, letter.queue, letter.reason, letter.attempts) == ("charge", "arq:queue", "failed", 2)
    assert letter.error.type == "builtins.ConnectionError"
    assert letter.error.message == "the bank does not answer Ada"
    assert 'raise ConnectionError(f"the bank' in letter.error.traceback
    assert (letter.arguments, letter.keyword_arguments) == (("Ada",), {"amount": 5})
    assert letter.metadata == {"order": 7}
    assert letter.enqueued_at <= letter.started_at <= letter.died_at
    assert letter.expires_at - letter.died_at == pytest.approx(timedelta(days=7), abs=timedelta(minutes=1))
    assert b"Ada" in letter.payload


async def test_arguments_do_not_show_when_a_letter_is_printed(run_worker, producer):
    await run_worker(refund)
    (job,) = await fail(producer, refund("hunter2"))
    letter = await producer.dead.get(job.job_id)
    assert "hunter2" not in repr(letter).replace(letter.error.message, "").replace(letter.error.traceback, "")


async def test_replayed_it_runs_again_under_its_id_with_its_attempts_counted_anew(run_worker, producer):
    await run_worker(charge)
    (job,) = await fail(producer, charge("Ada"))
    bank["answers"] = True
    assert (await producer.dead.replay(job.job_id)).replayed == 1
    # The handle from before has the result it waited for; another one waits anew.
    assert await producer.job(job.job_id).result(timeout=10) == "Ada paid 1 in attempt 1"
    with pytest.raises(JobNotFound, match="no dead letter of job"):
        await producer.dead.get(job.job_id)


async def test_replayed_with_a_delay_it_is_scheduled(run_worker, producer):
    await run_worker(refund)
    (job,) = await fail(producer, refund("Ada"))
    await producer.dead.replay(job.job_id, delay=timedelta(hours=1))
    assert await job.status() is JobState.SCHEDULED
    assert await job.abort()


async def test_it_fails_again_it_is_dead_again(run_worker, producer):
    await run_worker(charge)
    (job,) = await fail(producer, charge("Ada"))
    await producer.dead.replay(job.job_id)
    with pytest.raises(TaskFailed):
        await producer.job(job.job_id).result(timeout=10)
    assert (await producer.dead.get(job.job_id)).attempts == 2


async def test_letters_are_listed_the_newest_first_and_by_pages(run_worker, producer):
    await run_worker(refund)
    jobs = await fail(producer, *(refund(f"{n}") for n in range(5)))
    newest_first = [job.job_id for job in reversed(jobs)]
    page = await producer.dead.list(limit=2)
    assert [letter.job_id for letter in page.letters] == newest_first[:2]
    assert all(letter.payload is None and not letter.error.traceback for letter in page.letters)
    rest = await producer.dead.list(limit=10, after=page.next)
    assert ([letter.job_id for letter in rest.letters], rest.next) == (newest_first[2:], None)
    assert [letter.job_id async for letter in producer.dead.iterate()] == newest_first


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, {"charge", "refund"}),
        ({"task": "charge"}, {"charge"}),
        ({"task": "re*"}, {"refund"}),
        ({"error": "LookupError"}, {"refund"}),
        ({"error": "builtins.ConnectionError"}, {"charge"}),
        ({"error": "*Error"}, {"charge", "refund"}),
        ({"error": "Error"}, set()),
        ({"queue": "arq:queue"}, {"charge", "refund"}),
        ({"queue": "arq"}, set()),
        ({"since": timedelta(minutes=5)}, {"charge", "refund"}),
        ({"until": timedelta(minutes=5)}, set()),
        ({"since": datetime(2020, 1, 1, tzinfo=UTC), "task": "charge"}, {"charge"}),
        ({"until": datetime(2020, 1, 1, tzinfo=UTC)}, set()),
        ({"task": "charge", "error": "LookupError"}, set()),
    ],
)
async def test_filters_choose(filters, found, run_worker, producer):
    await run_worker(charge, refund)
    await fail(producer, charge("Ada"), refund("Ada"))
    assert {letter.task for letter in (await producer.dead.list(**filters)).letters} == found
    assert await producer.dead.count(**filters) == len(found)


async def test_many_are_replayed_by_task_or_by_error(run_worker, producer):
    await run_worker(charge, refund)
    jobs = await fail(producer, charge("Ada"), refund("Bob"), charge("Cy"))
    bank["answers"] = True
    assert (await producer.dead.replay(task="charge", error="ConnectionError")).replayed == 2
    assert [await producer.job(jobs[n].job_id).result(timeout=10) for n in (0, 2)] == [
        "Ada paid 1 in attempt 1", "Cy paid 1 in attempt 1",
    ]  # fmt: skip
    assert [letter.task async for letter in producer.dead.iterate()] == ["refund"]


async def test_everything_is_replayed_once_though_it_all_fails_again(run_worker, producer):
    worker = await run_worker(refund)
    jobs = await fail(producer, refund("Ada"), refund("Bob"))
    replayed = await producer.dead.replay(everything=True)
    assert replayed.replayed == 2
    for job in jobs:
        with pytest.raises(TaskFailed):
            await producer.job(job.job_id).result(timeout=10)
    assert worker.jobs_failed == 4
    assert await producer.dead.count() == 2


async def test_a_limit_takes_the_oldest(run_worker, producer):
    await run_worker(refund)
    jobs = await fail(producer, refund("Ada"), refund("Bob"), refund("Cy"))
    assert await producer.dead.delete(task="refund", limit=2) == 2
    assert [letter.job_id async for letter in producer.dead.iterate()] == [jobs[2].job_id]


async def test_a_letter_whose_id_was_taken_meanwhile_stays(run_worker, producer):
    worker = await run_worker(charge, keep_result=0)
    (job,) = await fail(producer, charge("Ada"), job_id="mine")
    await worker.close()
    await producer.enqueue(charge("Bob"), job_id="mine")
    answer = await producer.dead.replay("mine", "nowhere", "mine")
    assert (answer.replayed, answer.taken, answer.missing) == (0, ("mine",), ("nowhere",))
    assert (await producer.dead.get("mine")).arguments == ("Ada",)
    assert await job.abort()


async def test_a_letter_can_be_deleted_and_the_result_stays(run_worker, producer):
    await run_worker(refund)
    (job,) = await fail(producer, refund("Ada"))
    assert await producer.dead.delete(job.job_id, "nowhere") == 1
    assert await producer.dead.count() == 0
    assert await job.status() is JobState.FAILED


async def test_why_it_ended_is_one_word(run_worker, producer, redis):
    await run_worker(charge, too_slow)
    with pytest.raises(TaskTimedOut):
        await (await producer.enqueue(too_slow())).result(timeout=10)
    await fail(producer, Call("charge", 5), charge("Ada"))
    reasons = [letter.reason async for letter in producer.dead.iterate()]
    assert reasons == ["failed", "arguments", "timed_out"]


async def test_a_payload_that_cannot_be_decoded_is_kept_as_it_is(run_worker, producer, redis):
    await run_worker(charge)
    await redis.set("arq:job:odd", b"\xff\x00 no job")
    await redis.zadd("arq:queue", {"odd": 1})
    with pytest.raises(TaskFailed):
        await producer.job("odd").result(timeout=10)
    letter = await producer.dead.get("odd")
    assert (letter.reason, letter.task, letter.payload) == ("undecodable", None, b"\xff\x00 no job")
    assert "the payload is no job" in letter.unreadable


async def test_what_succeeded_or_was_cancelled_leaves_none(run_worker, producer):
    bank["answers"] = True
    await run_worker(charge)
    await (await producer.enqueue(charge("Ada"))).result(timeout=10)
    late = await producer.enqueue(charge("Bob"), delay=60)
    assert await late.abort()
    assert await producer.dead.count() == 0


async def test_no_more_are_kept_than_the_limit_and_0_keeps_none(run_worker, producer, monkeypatch):
    monkeypatch.setenv("BARQUE_DEAD_LIMIT", "2")
    first = await run_worker(refund)
    jobs = await fail(producer, refund("Ada"), refund("Bob"), refund("Cy"))
    assert [letter.job_id async for letter in producer.dead.iterate()] == [jobs[2].job_id, jobs[1].job_id]
    await first.close()
    monkeypatch.setenv("BARQUE_DEAD_LIMIT", "0")
    await run_worker(refund)
    (job,) = await fail(producer, refund("Dan"))
    with pytest.raises(JobNotFound):
        await producer.dead.get(job.job_id)


@pytest.mark.parametrize("call", ["replay", "delete"])
@pytest.mark.parametrize(
    ("ids", "filters", "why"),
    [
        ((), {}, "say which"),
        ((), {"task": None}, "say which"),
        (("a",), {"task": "t"}, "one of the three"),
        (("a",), {"everything": True}, "one of the three"),
        ((), {"limit": 0}, "limit=0"),
        ((), {"task": ""}, "task=''"),
        ((), {"since": datetime(2020, 1, 1)}, "with a time zone"),  # noqa: DTZ001 - that is the point
    ],
)
async def test_what_is_not_clear_is_not_done(call, ids, filters, why, producer):
    with pytest.raises(ConfigurationError, match=why):
        await getattr(producer.dead, call)(*ids, **filters)


@pytest.mark.parametrize(("filters", "why"), [({"after": "x"}, "`next` of the page"), ({"limit": -1}, "limit=-1")])
async def test_a_page_is_asked_for_as_it_can_be(filters, why, producer):
    with pytest.raises(ConfigurationError, match=why):
        await producer.dead.list(**filters)


async def test_synchronous_code_has_the_same(run_worker, producer, redis_url):
    from producer import BlockingProducer

    await run_worker(refund)
    jobs = await fail(producer, refund("Ada"), refund("Bob"), refund("Cy"))

    def look() -> None:
        with BlockingProducer(redis_url) as blocking:
            assert blocking.dead.count() == 3
            assert [letter.task for letter in blocking.dead.iterate(task="refund")] == ["refund"] * 3
            assert blocking.dead.list(limit=1).letters[0].job_id == jobs[2].job_id
            assert blocking.dead.get(jobs[0].job_id).arguments == ("Ada",)
            assert blocking.dead.delete(jobs[0].job_id) == 1
            assert blocking.dead.replay(task="refund", limit=1, delay=60).replayed == 1

    await asyncio.to_thread(look)
