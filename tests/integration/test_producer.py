"""producer/client.py and job.py against a real server: what is added, what is refused, what breaks."""

import asyncio
import gc
import os
import re
import signal
import socket

import pytest

from common import Context, task
from common.codec import decode_job
from common.embedded import EmbeddedServer
from common.errors import (
    ConfigurationError,
    JobCancelled,
    JobNotFound,
    NotSerializable,
    PayloadTooLarge,
    RedisUnavailable,
    ResultTimeout,
)
from common.jobs import JobState
from common.redis.connection import ServerError, connect
from common.secret import Secret
from common.server_binary import installed_servers
from common.settings import Settings, load_settings
from common.tasks import Call
from producer import Producer
from tests.support.running import producer

__all__ = ["producer"]


async def test_every_option_reaches_the_server(producer, keyspace):
    job = await producer.enqueue(
        Call("t", 1, b=2), delay=60, expires=3600, job_id="mine", queue="mail", timeout=5, metadata={"trace": "x"}
    )
    assert (job.job_id, job.queue, job.is_new) == ("mine", "mail", True)
    left = await keyspace.dump()
    raw, ttl = left.pop("arq:job:mine")
    assert left == {"mail": {"mine": "now+60s"}, "barque:wake:mail": {"due": 0}, "arq:retry:mine": b"0"}
    assert ttl == "3600s"
    payload = decode_job(raw)
    assert (payload.task, payload.as_objects()) == ("t", ((1,), {"b": 2}))
    assert (payload.extras.timeout, payload.extras.meta) == (5, {"trace": "x"})


async def test_enqueues_from_many_coroutines_share_round_trips(producer, keyspace, redis):
    await redis.config_resetstat()
    jobs = await asyncio.gather(*(producer.enqueue(Call("t", n)) for n in range(500)))
    calls = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert calls <= 3
    assert await redis.zcard("arq:queue") == 500
    assert len({job.job_id for job in jobs}) == 500


async def test_enqueue_many_keeps_the_order_and_takes_each_tasks_options(producer, keyspace):
    jobs = await producer.enqueue_many((Call("t", n) for n in range(3)), delay=60, queue="q", metadata={"m": 1})
    left = await keyspace.dump()
    assert list(left["q"]) == [job.job_id for job in jobs]
    assert set(left["q"].values()) == {"now+60s"}


async def test_enqueue_many_of_none(producer, keyspace):
    assert await producer.enqueue_many([]) == []
    assert await keyspace.dump() == {}


@pytest.mark.parametrize(
    ("bad", "error"), [(Call("t", object()), NotSerializable), (Call("t", "x" * 2_000_000), PayloadTooLarge)]
)
async def test_one_call_that_cannot_travel_stops_them_all_before_anything_is_sent(bad, error, producer, keyspace):
    with pytest.raises(error):
        await producer.enqueue_many([Call("t"), bad, Call("t")])
    with pytest.raises(error):
        await producer.gather(Call("t"), bad)
    assert await keyspace.dump() == {}


async def test_one_callers_mistake_does_not_reach_the_others_of_its_batch(producer, keyspace, redis):
    results = await asyncio.gather(
        producer.enqueue(Call("t")),
        producer.enqueue(Call("t", object())),
        producer.enqueue(Call("t")),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results] == ["Job", "NotSerializable", "Job"]
    assert await redis.zcard("arq:queue") == 2


@pytest.mark.parametrize(
    "use",
    [
        lambda p: p.enqueue(Call("t")),
        lambda p: p.enqueue_many([Call("t")]),
        lambda p: p.job("a").result(timeout=5),
        lambda p: p.job("a").status(),
        lambda p: p.job("a").info(),
        lambda p: p.job("a").abort(),
        lambda p: p.gather(Call("t")),
    ],
    ids=["enqueue", "enqueue_many", "result", "status", "info", "abort", "gather"],
)
@pytest.mark.parametrize("when", ["never opened", "closed"])
async def test_a_producer_that_is_not_open_says_so(use, when, redis_url):
    producer = Producer(redis_url)
    if when == "closed":
        await producer.connect()
        await producer.aclose()
    with pytest.raises(RedisUnavailable, match="not open: use `async with Producer"):
        await use(producer)


async def test_opening_and_closing_twice_is_fine_and_it_can_be_opened_again(redis_url, keyspace, redis):
    producer = Producer(redis_url)
    await producer.connect()
    await producer.connect()
    await producer.aclose()
    await producer.aclose()
    async with producer:
        await producer.enqueue(Call("t"))
    assert await redis.zcard("arq:queue") == 1


async def test_closing_leaves_no_connection_behind(redis_url, redis):
    async with Producer(redis_url) as producer:
        with pytest.raises(JobNotFound):
            await producer.job("none").result(timeout=5)
        ours = f"barque-producer-{os.getpid()}"  # other processes, which serve the tests of pages say, have theirs
        assert any(client["name"].startswith(ours) for client in await redis.client_list())
    async with asyncio.timeout(10):
        while any(client["name"].startswith(ours) for client in await redis.client_list()):
            await asyncio.sleep(0)


async def test_a_refused_connection_is_one_readable_error_and_keeps_the_password_to_itself():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(RedisUnavailable) as raised:
        async with Producer(f"redis://:hunter2@127.0.0.1:{port}"):
            pass
    message = str(raised.value)
    assert f"127.0.0.1:{port}" in message
    assert "\n" not in message
    assert "hunter2" not in message


async def test_a_server_that_hangs_is_an_error_in_time_and_the_producer_is_of_use_afterwards(
    redis_url, keyspace, redis
):
    async with Producer(redis_url, answer_within=0.1) as producer:
        await producer.enqueue(Call("t"))
        await redis.execute_command("CLIENT", "PAUSE", 1000, "ALL")
        with pytest.raises(RedisUnavailable, match=r"gave no answer within 0\.1 s; 1 job\(s\) may be there or not"):
            await producer.enqueue(Call("t"), job_id="mine")
        await redis.ping()  # answered when the pause is over
        again = await producer.enqueue(Call("t"), job_id="mine")
        assert await again.status() is JobState.QUEUED
        assert await redis.zcard("arq:queue") == 2


@pytest.fixture
def hangable():
    """A server of one's own, and the functions that have it hang and go on."""
    with EmbeddedServer() as server:
        pid = server.pid
        yield server, lambda: os.kill(pid, signal.SIGSTOP), lambda: os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGCONT)


USES = {
    "enqueue": lambda p: p.enqueue(Call("t")),
    "enqueue_many": lambda p: p.enqueue_many([Call("t")]),
    "gather": lambda p: p.gather(Call("t")),
    "result": lambda p: p.job("mine").result(),
    "wait": lambda p: p.job("mine").wait(),
    "status": lambda p: p.job("mine").status(),
    "info": lambda p: p.job("mine").info(),
    "abort": lambda p: p.job("mine").abort(),
}


@pytest.mark.parametrize("listening", [False, True])
async def test_no_call_waits_without_end_for_a_server_that_hangs(listening, hangable):
    server, stop, go_on = hangable
    async with Producer(server.url, answer_within=0.1) as producer, asyncio.timeout(20):
        job = await producer.enqueue(Call("t"), job_id="mine")
        if listening:
            with pytest.raises(JobNotFound):
                await producer.job("none").result()
        stop()
        errors = await asyncio.gather(*(use(producer) for use in USES.values()), return_exceptions=True)
        go_on()
        told = {name: str(error) for name, error in zip(USES, errors, strict=True)}
        assert {type(error) for error in errors} == {RedisUnavailable}, told
        # One that waits for a result may learn it from another question of its producer's.
        assert all(re.search(r"(gave no answer within|has been away for) 0\.1 s", text) for text in told.values()), told
        assert all(error.__suppress_context__ or error.__context__ is None for error in errors), "one short traceback"
        assert await job.status() in {JobState.QUEUED, JobState.CANCELLED}, "of use when the server is back"


async def test_enqueues_of_many_batches_are_told_together_that_the_server_hangs(hangable):
    server, stop, go_on = hangable
    async with Producer(server.url, answer_within=0.5) as producer, asyncio.timeout(20):
        stop()
        before = asyncio.get_running_loop().time()
        errors = await asyncio.gather(*(producer.enqueue(Call("t")) for _ in range(9000)), return_exceptions=True)
        took = asyncio.get_running_loop().time() - before
        go_on()
    assert {type(error) for error in errors} == {RedisUnavailable}
    assert took < 9 * 0.5, "nine batches do not wait one after the other"


async def test_a_wait_under_way_ends_when_the_server_hangs_for_too_long(hangable):
    server, stop, go_on = hangable
    async with Producer(server.url, answer_within=0.2) as producer, asyncio.timeout(20):
        waiting = asyncio.create_task((await producer.enqueue(Call("t"), job_id="mine")).result())
        await asyncio.sleep(0)
        with pytest.raises(JobNotFound):  # asked after the other, so that one is answered
            await producer.job("none").result()
        stop()
        with pytest.raises(RedisUnavailable, match=r"has been away for 0\.2 s .*the jobs are not affected"):
            await waiting
        go_on()


async def test_closing_while_the_server_hangs_ends_what_waits(hangable):
    server, stop, go_on = hangable
    producer = Producer(server.url, answer_within=300)
    async with asyncio.timeout(20):
        await producer.connect()
        job = await producer.enqueue(Call("t"))
        stop()
        waiting = [asyncio.create_task(job.result()) for _ in range(3)]
        await asyncio.sleep(0)
        await producer.aclose()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        go_on()
    assert {type(error) for error in ended} == {asyncio.CancelledError}


async def test_closing_twice_at_once_is_fine(redis_url):
    producer = Producer(redis_url)
    await producer.connect()
    await asyncio.gather(producer.aclose(), producer.aclose())


async def test_a_user_without_the_right_to_subscribe_is_told_which_it_needs(producer, keyspace, redis):
    await redis.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "resetchannels")
    try:
        settings = producer.settings.replace(redis_username="app", redis_password=Secret("pw"))
        async with Producer(settings=settings) as barred, asyncio.timeout(20):
            job = await barred.enqueue(Call("t"))
            for _ in range(2):  # the second wait tries anew, and is told as well
                errors = await asyncio.gather(job.result(), job.result(), return_exceptions=True)
                assert [type(error) for error in errors] == [RedisUnavailable] * 2
                assert all("&barque:*" in str(error) for error in errors)
            await redis.execute_command("ACL", "SETUSER", "app", "&barque:*")
            with pytest.raises(JobNotFound):
                await barred.job("none").result()
    finally:
        await redis.execute_command("ACL", "DELUSER", "app")


async def test_enqueues_that_share_a_round_trip_have_each_its_own_answer(producer, keyspace, redis):
    await keyspace.seed({"q": b"a string"})
    good, bad, taken, new = await asyncio.gather(
        producer.enqueue(Call("t"), job_id="a"),
        producer.enqueue(Call("t"), queue="q"),
        producer.enqueue(Call("t"), job_id="a"),
        producer.enqueue(Call("t")),
        return_exceptions=True,
    )
    assert (good.is_new, taken.is_new, new.is_new) == (True, False, True)
    assert isinstance(bad, RedisUnavailable)
    assert "did not take 1 job(s)" in str(bad)
    assert bad.__cause__ is None
    assert await redis.zcard("arq:queue") == 2


async def test_enqueue_many_says_how_many_were_refused(producer, keyspace, redis):
    await keyspace.seed({"q": b"a string"})
    with pytest.raises(RedisUnavailable, match=r"did not take 3 job\(s\): .*WRONGTYPE"):
        await producer.enqueue_many([Call("t")] * 3, queue="q")


async def test_enqueue_many_says_how_many_were_taken_where_only_some_were(producer, keyspace, redis):
    @task(name="in_a_queue_that_is_none", queue="q")
    async def elsewhere(ctx: Context) -> None: ...

    await keyspace.seed({"q": b"a string"})
    with pytest.raises(RedisUnavailable, match=r"not take 1 job\(s\), but has the other 2 of this call: .*WRONGTYPE"):
        await producer.enqueue_many([Call("t"), elsewhere(), Call("t")])
    assert await redis.zcard("arq:queue") == 2


async def test_enqueue_many_of_jobs_that_ask_for_nothing_says_it_too(producer, keyspace, redis, monkeypatch):
    async def full_half_way(jobs):
        return [(1, ServerError("OOM command not allowed when used memory > 'maxmemory'."))]

    monkeypatch.setattr(producer.store, "enqueue_fresh", full_half_way)
    with pytest.raises(RedisUnavailable, match=r"not take 1 job\(s\), but has the other 1 of this call: .*maxmemory"):
        await producer.enqueue_many([Call("t")] * 2)


async def test_enqueue_many_that_is_cancelled_when_the_server_goes_complains_of_one_of_them(
    producer, keyspace, monkeypatch
):
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))

    async def gone(jobs):
        caller.cancel()
        raise ConnectionResetError

    monkeypatch.setattr(producer.store, "enqueue_fresh", gone)
    caller = asyncio.create_task(producer.enqueue_many([Call("t")] * 5000))
    with pytest.raises(asyncio.CancelledError):
        await caller
    gc.collect()
    assert complaints == []


async def test_names_of_queues_are_not_remembered_without_end(producer, keyspace, monkeypatch):
    monkeypatch.setattr("producer.binding._QUEUES_KNOWN", 2)
    for queue in ("a", "b", "c", "d"):
        await producer.enqueue(Call("t"), queue=queue)
    assert len(producer._binder._checked) <= 2
    with pytest.raises(ConfigurationError, match="queue="):
        await producer.enqueue(Call("t"), queue=["a"])


async def test_arqs_way_to_enqueue_is_told_ours(producer, keyspace):
    with pytest.raises(
        ConfigurationError, match=r"enqueue takes a Call, got str and 2 more arguments: .*Call\("
    ) as told:
        await producer.enqueue("fetch_url", "secret", 5)
    assert "secret" not in str(told.value)
    with pytest.raises(ConfigurationError, match="got Call and 1 more argument:"):
        await producer.enqueue(Call("fetch_url"), "secret")
    assert await keyspace.dump() == {}


@pytest.mark.parametrize("options", [{"job_id": "a\ud800"}, {"job_id": ""}, {"job_id": "a", "queue": "\ud800"}])
async def test_a_handle_of_what_cannot_be_is_refused_and_disturbs_nobody(options, producer):
    with pytest.raises(ConfigurationError, match="give text, without lone surrogates"):
        producer.job(**options)


async def test_a_handle_may_be_of_an_id_that_is_no_text(producer, redis, keyspace):
    await redis.zadd("arq:queue", {b"a\xff": 1})
    await redis.set(b"arq:job:a\xff", b"no job")
    job = producer.job("a\udcff")
    assert await job.status() is JobState.QUEUED
    assert (await job.info()).job_id == "a\udcff"
    await job.reschedule(delay=60)
    assert await job.status() is JobState.SCHEDULED
    waiting = asyncio.create_task(job.wait(30))
    assert await job.abort() is True
    await waiting
    with pytest.raises(JobCancelled):
        await job.result(timeout=30)
    assert await job.progress() is None


async def test_a_connection_that_breaks_is_an_error_and_the_next_enqueue_has_a_new_one(producer, keyspace, redis):
    await producer.enqueue(Call("t"))
    for client in await redis.client_list():
        if client["name"].startswith("barque-producer-"):
            await redis.client_kill_filter(_id=client["id"])
    outcomes = []
    async with asyncio.timeout(10):
        while "Job" not in outcomes:
            outcomes += [
                type(x).__name__ for x in await asyncio.gather(producer.enqueue(Call("t")), return_exceptions=True)
            ]
    assert set(outcomes) <= {"Job", "RedisUnavailable"}


async def test_a_queue_that_is_no_queue_is_an_error_that_says_so(producer, keyspace, redis):
    await keyspace.seed({"q": b"a string"})
    with pytest.raises(RedisUnavailable, match=r"did not take 1 job.*WRONGTYPE"):
        await producer.enqueue(Call("t"), queue="q", job_id="a")


async def test_settings_and_a_url_together(redis_url):
    settings = load_settings(redis_url="redis://elsewhere", queues="a,b")
    producer = Producer(redis_url, settings=settings)
    assert producer.settings.redis_url == redis_url
    assert producer.settings.queues == ("a", "b")
    assert producer.job("x").queue == "a"


async def test_a_handle_shows_its_id_and_queue_and_no_arguments(producer, keyspace):
    job = await producer.enqueue(Call("t", "secret"), job_id="mine")
    again = await producer.enqueue(Call("t", "secret"), job_id="mine")
    assert repr(job) == "<Job mine in arq:queue>"
    assert repr(again) == "<Job mine in arq:queue, was there already>"


async def test_gather_and_as_completed_have_one_limit_for_all(producer, keyspace):
    with pytest.raises(ResultTimeout, match=r"2 jobs were not all done after 0\.05 s"):
        await producer.gather(Call("t"), Call("t"), timeout=0.05)
    with pytest.raises(ResultTimeout, match=r"2 of 2 jobs have no result after 0\.05 s"):
        await anext(producer.as_completed([Call("t"), Call("t")], timeout=0.05))


async def test_who_gives_up_waiting_leaves_no_task_behind(producer, keyspace):
    # The first wait starts what listens for the producer; from then on nothing is added.
    with pytest.raises(JobNotFound):
        await producer.job("none").result()
    before = len(asyncio.all_tasks())
    for _ in range(3):
        with pytest.raises(ResultTimeout):
            await producer.gather(*(Call("t", n) for n in range(20)), timeout=0.05)
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0)


@pytest.mark.parametrize("binary", installed_servers(), ids=lambda binary: binary.kind)
@pytest.mark.parametrize(
    ("rules", "right"),
    [
        (["+@all", "-evalsha", "~*"], "ACL SETUSER <user> +evalsha"),
        (["+@all", "-zadd", "~*"], "barque doctor --acl"),
        (["+@all", "~barque:*"], "ACL SETUSER <user> ~arq:* ~barque:*"),
    ],
    ids=["a command", "a command of a script", "keys"],
)
async def test_a_user_without_a_right_is_told_which_to_ask_for(binary, rules, right):
    with EmbeddedServer(binary=binary.path) as server:
        admin = connect(Settings(redis_url=server.url))
        await admin.execute_command("ACL", "SETUSER", "weak", "on", ">s3cr3t", "&*", *rules)
        async with Producer(server.url.replace("redis://", "redis://weak:s3cr3t@")) as weak:
            with pytest.raises(RedisUnavailable) as raised:
                await weak.enqueue(Call("anything", "s3cr3t"))
        assert "the ACL user may not do this" in str(raised.value)
        assert right in str(raised.value)
        assert "s3cr3t" not in str(raised.value)
        assert await admin.dbsize() == 0
        await admin.aclose()
