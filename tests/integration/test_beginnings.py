"""common/redis/beginnings.py, and `begin` of line.py: what is sent in the step in which it is asked for, by itself."""

import asyncio

import pytest
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse, NoScriptError, ReadOnlyError, ResponseError

from common.redis import keys
from common.redis.connection import connect
from common.redis.store import Enqueue, Finish, Store
from common.redis.wire import call, lines_of
from common.settings import Settings

pytestmark = pytest.mark.leaves_keys("k", "list")


def begin(client, commands, told):
    return lines_of(client).begin(commands, told)


QUEUE = "beginnings"


@pytest.fixture
async def client(redis_url):
    client = connect(Settings(redis_url=redis_url), name="beginnings")
    await call(client, ("PING",))  # there is a line from now on
    yield client
    await client.aclose(close_connection_pool=True)


@pytest.fixture
def store(client) -> Store:
    return Store(client)


class Told:
    """What a call was told."""

    def __init__(self) -> None:
        self.future = asyncio.get_running_loop().create_future()

    def __call__(self, answer) -> None:
        assert not self.future.done(), "told twice"
        self.future.set_result(answer)

    async def answer(self):
        async with asyncio.timeout(30):
            return await self.future

    async def reply(self):
        """Return the reply to the one command that was sent."""
        (reply,) = await self.answer()
        return reply


async def test_a_reply_is_told_as_it_comes(client):
    told = Told()
    assert begin(client, [("ECHO", "mine")], told) is not None
    assert await told.reply() == b"mine"


async def test_several_have_their_replies_in_order_errors_among_them(client):
    told = Told()
    begin(client, [("ECHO", "1"), ("GET",), ("ECHO", "3")], told)
    first, error, last = await told.answer()
    assert (first, last) == (b"1", b"3")
    assert isinstance(error, ResponseError)


@pytest.mark.parametrize(("command", "kind"), [(("EVALSHA", "0" * 40, 0), NoScriptError), (("GET",), ResponseError)])
async def test_an_error_is_told_and_the_line_goes_on(client, command, kind):
    told, after = Told(), Told()
    begin(client, [command], told)
    assert isinstance(await told.reply(), kind)
    begin(client, [("ECHO", "mine")], after)
    assert await after.reply() == b"mine"


async def test_while_its_line_is_busy_another_may_take_none(client):
    first, second = Told(), Told()
    assert begin(client, [("ECHO", "1")], first) is not None
    assert begin(client, [("ECHO", "2")], second) is None, "there is one line, and nothing is opened or waited for here"
    assert await call(client, ("ECHO", "3")) == b"3"
    assert await first.reply() == b"1"


async def test_after_a_server_that_is_none_any_more_another_connection_is_made(client):
    told = Told()
    begin(client, [("EVAL", "return redis.error_reply('READONLY no')", 0)], told)
    assert isinstance(await told.reply(), ReadOnlyError)
    assert begin(client, [("PING",)], told) is None


async def test_a_line_that_is_lost_says_so(client):
    told = Told()
    begin(client, [("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")], told)
    answer = await told.answer()
    assert answer is not None
    again = Told()
    while begin(client, [("PING",)], again) is not None:  # the server answered, and closed it then
        assert isinstance(await again.answer(), ConnectionLost | InvalidResponse | list)
        again = Told()
    assert await call(client, ("ECHO", "mine")) == b"mine"


async def test_dropped_it_tells_that_no_answer_comes(client):
    told = Told()
    line = begin(client, [("BLPOP", "list", 0)], told)
    assert line is not None
    line.drop()
    assert isinstance(await told.answer(), ConnectionLost)
    assert await call(client, ("ECHO", "mine")) == b"mine"


@pytest.fixture
async def job(store, redis):
    """Add a job, as nothing else is under way."""
    told = Told()
    assert await store.enqueue([Enqueue(QUEUE, "warm", b"payload")]) == [True]  # the server knows the script
    assert store.begin_enqueue(Enqueue(QUEUE, "job", b"payload"), told) is not None
    assert await told.answer() is True
    yield "job"
    await store.erase(QUEUE, ["job", "warm"])
    await redis.delete(keys.wake(QUEUE), keys.WAITERS)


async def test_a_job_is_in_its_queue(job, redis):
    assert await redis.zscore(QUEUE, job) is not None
    assert await redis.get(keys.JOB + job) == b"payload"
    assert await redis.exists(keys.wake(QUEUE))


@pytest.mark.parametrize("fields", [{"fresh": False}, {"fresh": False, "delay_ms": 1000}])
async def test_a_job_that_asks_for_something_takes_the_other_way(store, fields):
    assert store.begin_enqueue(Enqueue(QUEUE, "job", b"payload", **fields), Told()) is None


async def test_a_server_that_forgot_the_scripts_is_to_be_asked_the_other_way(job, store, redis):
    claim = await store.claim([QUEUE], most=2, lease_ms=60_000, worker="w", number=1)
    held = claim.jobs[0]
    await redis.script_flush()
    added, asked, ended = Told(), Told(), Told()
    store.begin_enqueue(Enqueue(QUEUE, "another", b"payload"), added)
    assert await added.answer() is None
    store.begin_await("channel", job, asked)
    assert await asked.answer() is None
    store.begin_complete([QUEUE], Finish(held, b"result", 1000), ended)
    assert isinstance(await ended.answer(), NoScriptError)
    assert not await redis.exists(keys.JOB + "another")


async def test_a_result_is_registered_for_or_there_or_unknown(job, store, redis):
    await store.await_results("channel", ["warm"])
    waits, there, unknown = Told(), Told(), Told()
    store.begin_await("channel", job, waits)
    assert await waits.answer() is True
    assert await redis.hget(keys.WAITERS, job) == b"channel"
    await redis.set(keys.RESULT + job, b"result", px=60_000)
    store.begin_await("channel", job, there)
    assert await there.answer() == b"result"
    store.begin_await("channel", "unknown", unknown)
    assert await unknown.answer() is False
