"""common/redis/lines.py: connections taken over from redis-py, against a real server."""

import asyncio
import gc
import warnings

import pytest
import redis as redis_py
import redis.asyncio as redis_asyncio
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse, NoPermissionError, NoScriptError, ReadOnlyError, ResponseError

from common.redis.connection import connect
from common.redis.lines import Line, Lines
from common.redis.wire import call, call_many
from common.settings import Settings

pytestmark = pytest.mark.leaves_keys("k", "list")


@pytest.fixture
async def client(redis_url):
    client = connect(Settings(redis_url=redis_url), name="lines")
    yield client
    await client.aclose(close_connection_pool=True)


async def connections(redis) -> int:
    return sum(each["name"] == "barque-lines" for each in await redis.client_list())


def test_redis_py_still_has_the_parts_that_are_taken_over():
    connection = redis_asyncio.Connection()
    assert connection._writer is None
    assert callable(connection._close)
    assert isinstance(connection._parser.parse_error("NOSCRIPT No matching script"), NoScriptError)


async def test_a_command_has_its_reply_as_redis_py_would_have_it(client):
    assert await call(client, ("SET", "k", b"\xff\x00\r\n")) == b"OK"
    assert await call(client, ("GET", "k")) == b"\xff\x00\r\n"
    assert await call(client, ("GET", "none")) is None
    assert await call(client, ("EVAL", "return {1, 'a', {false}}", 0)) == [1, b"a", [None]]


async def test_a_reply_of_many_megabytes_arrives_whole(client):
    large = bytes(range(256)) * 65_536
    await call(client, ("SET", "k", large))
    assert await call(client, ("GET", "k")) == large


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (("EVALSHA", "0" * 40, 0), NoScriptError),
        (("GET",), ResponseError),
        (("EVAL", "return redis.error_reply('READONLY no')", 0), ReadOnlyError),
    ],
)
async def test_an_error_is_redis_pys_own(client, command, kind):
    with pytest.raises(kind):
        await call(client, command)
    assert await call(client, ("PING",)) == b"PONG"


async def test_an_error_among_many_stands_in_its_place(client):
    first, error, last = await call_many(client, [("SET", "k", 1), ("LPUSH", "k", 1), ("GET", "k")])
    assert (first, last) == (b"OK", b"1")
    assert isinstance(error, ResponseError)


async def test_no_command_has_no_reply(client):
    assert await call_many(client, []) == []


async def test_one_connection_serves_one_exchange_after_the_other(client, redis):
    for _ in range(20):
        await call(client, ("PING",))
    assert await connections(redis) == 1


async def test_exchanges_at_once_have_connections_of_their_own_and_never_each_others_replies(client, redis):
    for _ in range(3):
        asked = [f"{number}" for number in range(20)]
        answers = await asyncio.gather(*(call(client, ("ECHO", text)) for text in asked))
        assert answers == [text.encode() for text in asked]
    assert await connections(redis) <= 20


async def test_an_exchange_that_is_cancelled_takes_its_connection_with_it(client, redis):
    waiting = asyncio.create_task(call(client, ("BLPOP", "list", 0)))
    while not any("blpop" in str(each["cmd"]) for each in await redis.client_list()):
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await call(client, ("ECHO", "mine")) == b"mine"
    while await connections(redis) > 1:  # the server has heard of it
        await asyncio.sleep(0)
    await redis.lpush("list", "kept")
    assert await redis.llen("list") == 1


async def test_a_connection_that_is_cut_fails_its_exchange_and_is_not_used_again(client, redis):
    waiting = asyncio.create_task(call(client, ("BLPOP", "list", 0)))
    while not any("blpop" in str(each["cmd"]) for each in await redis.client_list()):
        await asyncio.sleep(0)
    assert await redis.client_kill_filter(_type="normal", skipme=True) >= 1
    with pytest.raises(ConnectionLost, match="closed"):
        await waiting
    assert await call(client, ("PING",)) == b"PONG"


async def test_an_idle_connection_that_is_cut_is_replaced_before_the_next_exchange(client, redis):
    await call(client, ("PING",))
    (line,) = client.connection_pool.lines._idle
    await redis.client_kill_filter(_type="normal", skipme=True)
    while not line.lost:
        await asyncio.sleep(0)
    assert await call(client, ("PING",)) == b"PONG"


async def test_no_line_is_kept_to_what_became_a_replica(client, redis):
    await asyncio.gather(*(call(client, ("PING",)) for _ in range(3)))
    with pytest.raises(ReadOnlyError):
        await call(client, ("EVAL", "return redis.error_reply('READONLY no')", 0))
    assert client.connection_pool.lines._idle == []


async def test_closing_the_client_closes_them_all_and_nobody_complains(redis_url, redis):
    client = connect(Settings(redis_url=redis_url), name="lines")
    await asyncio.gather(*(call(client, ("PING",)) for _ in range(3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await client.aclose(close_connection_pool=True)
        del client
        gc.collect()
    assert await connections(redis) == 0


async def test_what_is_no_redis_server_is_said_to_be_none():
    hung_up = asyncio.Event()

    async def speak(reader, writer):
        await reader.read(1000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        lines = Lines(redis_asyncio.ConnectionPool(host="127.0.0.1", port=port, lib_name="", lib_version=""))
        with pytest.raises(InvalidResponse):
            await lines.exchange([("PING",)])
        await lines.aclose(busy=True)
        await hung_up.wait()


async def test_a_right_that_misses_is_told_as_such(redis_url, redis):
    await redis.execute_command("ACL", "SETUSER", "few", "on", "nopass", "~*", "+ping", "+client", "+select")
    try:
        with redis_py.Redis.from_url(redis_url) as known:
            where = known.connection_pool.connection_kwargs
        client = connect(Settings(redis_url=f"redis://few:any@{where['host']}:{where['port']}/0"))
        try:
            with pytest.raises(NoPermissionError):
                await call(client, ("GET", "k"))
        finally:
            await client.aclose(close_connection_pool=True)
    finally:
        await redis.execute_command("ACL", "DELUSER", "few")


async def test_a_limit_on_the_time_of_a_reply_is_left_to_redis_py(redis_url, monkeypatch):
    async def never(*_):
        raise AssertionError("a line was opened")

    monkeypatch.setattr(Line, "open", never)
    client = connect(Settings(redis_url=f"{redis_url}?socket_timeout=5"))
    try:
        assert await call(client, ("PING",)) in {b"PONG", True}
    finally:
        await client.aclose(close_connection_pool=True)
