"""common/redis/line.py and lines.py: connections taken over from redis-py, against a real server."""

import asyncio
import contextlib
import gc
import warnings

import pytest
import redis as redis_py
import redis.asyncio as redis_asyncio
from redis.exceptions import (
    AuthenticationError,
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as ConnectionLost

from common.redis import line as line_module
from common.redis import lines as lines_module
from common.redis.connection import connect
from common.redis.line import Line
from common.redis.lines import Lines
from common.redis.wire import call, call_many
from common.settings import Settings

pytestmark = pytest.mark.leaves_keys("k", "list")


@pytest.fixture
async def client(redis_url):
    client = connect(Settings(redis_url=redis_url), name="lines")
    yield client
    await client.aclose(close_connection_pool=True)


@contextlib.asynccontextmanager
async def served_by(speak):
    """Lines to a server that is none: `speak(reader, writer)` talks to each connection."""

    serving = set()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        with contextlib.suppress(OSError):
            await speak(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        lines = Lines(redis_asyncio.ConnectionPool(host="127.0.0.1", port=port, lib_name="", lib_version=""))
        yield lines
        await lines.aclose(busy=True)
        await asyncio.wait(serving)


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


@pytest.mark.parametrize(
    "said", [b"+OK\r\n+MORE\r\n", b"+OK\r\n+MO", b"HTTP\r\n"], ids=["a reply more", "a part of one", "no reply"]
)
async def test_what_was_not_asked_for_is_nobodys_reply(said):
    async def speak(reader, writer):
        while await reader.read(1000):
            writer.write(said)

    async with served_by(speak) as lines:
        for _ in range(2):
            with pytest.raises(InvalidResponse, match="while reading"):
                await lines.exchange([("PING",)])


async def test_replies_that_come_byte_by_byte_are_those_that_come_at_once():
    replies = b"*4\r\n:1\r\n$-1\r\n*2\r\n-ERR no\r\n$2\r\n\r\n\r\n*0\r\n-NOSCRIPT gone\r\n"

    async def speak(reader, writer):
        while await reader.read(1000):
            for at in range(len(replies)):
                writer.write(replies[at : at + 1])
                await asyncio.sleep(0)

    async with served_by(speak) as lines:
        for _ in range(2):
            first, second = await lines.exchange([("A",), ("B",)])
            assert (first[0], first[1], str(first[2][0]), first[2][1], first[3]) == (1, None, "no", b"\r\n", [])
            assert isinstance(second, NoScriptError)


def cut_between_commands():
    async def speak(reader, writer):
        await reader.read(1)

    async def exchange():
        async with served_by(speak) as lines:
            with pytest.raises(ConnectionLost):
                await lines.exchange([("SET", "k", b"x" * 1000)] * 5000)

    return exchange()


def test_a_connection_that_is_cut_between_the_commands_of_an_exchange_is_lost_and_nothing_else():
    asyncio.run(cut_between_commands())


def test_a_connection_that_is_cut_between_the_commands_of_an_exchange_is_lost_under_uvloop_too():
    uvloop = pytest.importorskip("uvloop")  # its transports raise RuntimeError where a lost one is written to
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(cut_between_commands())


async def test_no_more_is_packed_than_a_server_that_does_not_read_may_keep_waiting(monkeypatch):
    monkeypatch.setattr(line_module, "_MOST_UNSENT", 1_000_000)
    packed = []
    real = line_module.pack
    monkeypatch.setattr(line_module, "pack", lambda command: packed.append(1) or real(command))
    reading, full = asyncio.Event(), asyncio.Event()

    async def speak(reader, writer):
        await reading.wait()
        while await reader.read(1_000_000):
            pass

    class Noticing(Line):
        def pause_writing(self):
            super().pause_writing()
            full.set()

    monkeypatch.setattr(lines_module, "Line", Noticing)
    commands = [("SET", "k", b"x" * 1_000_000)] * 100
    async with served_by(speak) as lines:
        exchange = asyncio.create_task(lines.exchange(commands))
        await full.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(packed) < 60  # what the sockets hold, and two
        reading.set()
        while len(packed) < 100:
            await asyncio.sleep(0)
        exchange.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange


async def test_an_exchange_that_waits_to_send_more_ends_with_its_connection(monkeypatch):
    monkeypatch.setattr(line_module, "_MOST_UNSENT", 100_000)
    waits = asyncio.Event()

    async def speak(reader, writer):
        await waits.wait()

    class Noticing(Line):
        def pause_writing(self):
            super().pause_writing()
            waits.set()

    monkeypatch.setattr(lines_module, "Line", Noticing)
    async with served_by(speak) as lines:
        with pytest.raises(ConnectionLost):
            await lines.exchange([("SET", "k", b"x" * 1_000_000)] * 100)


async def test_exchanges_have_so_many_connections_at_the_most_and_wait_for_one(redis_url, redis):
    client = connect(Settings(redis_url=f"{redis_url}?max_connections=3"), name="lines")
    try:
        answers = await asyncio.gather(*(call(client, ("ECHO", f"{number}")) for number in range(200)))
        assert answers == [f"{number}".encode() for number in range(200)]
        assert await connections(redis) == 3
        held = [asyncio.create_task(call(client, ("BLPOP", "list", 0))) for _ in range(3)]
        waiting = [asyncio.create_task(call(client, ("ECHO", "a"))) for _ in range(2)]
        while sum("blpop" in str(each["cmd"]) for each in await redis.client_list()) < 3:
            await asyncio.sleep(0)
        waiting[0].cancel()
        held[0].cancel()
        assert await waiting[1] == b"a"
        await redis.lpush("list", 1, 2)
        await asyncio.gather(*held, return_exceptions=True)
        assert await call(client, ("ECHO", "b")) == b"b"
    finally:
        await client.aclose(close_connection_pool=True)


async def test_a_connection_that_was_silent_for_long_is_tried_before_it_is_used(client, monkeypatch):
    await asyncio.gather(*(call(client, ("PING",)) for _ in range(3)))
    lines = client.connection_pool.lines
    silent = list(lines._idle)
    assert len(silent) == 3
    said = []
    real = line_module.pack
    monkeypatch.setattr(line_module, "pack", lambda command: said.append(command[0]) or real(command))
    for line in silent:
        line.idle_since -= 31
    assert await call(client, ("ECHO", "a")) == b"a"
    assert await call(client, ("ECHO", "b")) == b"b"
    assert said == ["PING", "ECHO", "ECHO"]
    for line in silent:  # a firewall has dropped them: what is written to them goes nowhere
        line.idle_since -= 31
        monkeypatch.setattr(line, "_transport", _Nowhere(line._transport))
    lines._well_within = 0.01
    assert await call(client, ("ECHO", "c")) == b"c"
    assert all(line.lost for line in silent)
    assert len(lines._idle) == 1


class _Nowhere:
    """A transport whose bytes are lost."""

    def __init__(self, transport) -> None:
        self._transport = transport

    def write(self, data) -> None:
        pass

    def abort(self) -> None:
        self._transport.abort()


async def test_a_line_that_opens_while_the_pool_closes_is_not_kept(client, redis, monkeypatch):
    opened, go_on = asyncio.Event(), asyncio.Event()
    really_open = lines_module.Line.open

    async def open_slowly(pool):
        line = await really_open(pool)
        opened.set()
        await go_on.wait()
        return line

    monkeypatch.setattr(lines_module.Line, "open", open_slowly)
    opening = asyncio.create_task(call(client, ("PING",)))
    await opened.wait()
    lines = client.connection_pool.lines
    assert not lines._busy
    await lines.aclose(busy=True)
    go_on.set()
    await opening
    assert lines._idle == []
    while await connections(redis):
        await asyncio.sleep(0)


async def test_a_line_that_a_server_knows_no_more_is_not_kept(client):
    with pytest.raises(AuthenticationError):
        await call(client, ("EVAL", "return redis.error_reply('NOAUTH Authentication required.')", 0))
    assert client.connection_pool.lines._idle == []
    assert await call(client, ("PING",)) == b"PONG"


async def test_what_no_channel_says_ends_a_subscription():
    async def speak(reader, writer):
        await reader.read(1000)
        writer.write(b":1\r\n")
        await reader.read(1000)

    async with served_by(speak) as lines:
        with pytest.raises(InvalidResponse):
            await lines.subscribe("channel", lambda _: None)


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


@pytest.mark.parametrize("taken", [None, 0, 7])
async def test_what_the_socket_does_not_take_at_once_goes_by_the_transport(client, monkeypatch, taken):
    """What is alone is written past the transport; a socket may refuse, or take a part."""
    await call(client, ("PING",))  # there is a line from now on
    really = line_module.write_now
    written = []

    def write(socket: int, data: bytes) -> int:
        written.append(data)
        if taken is None:
            raise BlockingIOError
        return really(socket, data[:taken]) if taken else 0

    monkeypatch.setattr(line_module, "write_now", write)
    told = asyncio.get_running_loop().create_future()
    lines = client.connection_pool.lines
    assert lines.begin([("ECHO", "one"), ("ECHO", "two")], told.set_result) is not None
    async with asyncio.timeout(30):
        assert await told == [b"one", b"two"]
    assert len(written) == 1


async def test_more_than_a_socket_surely_takes_goes_by_the_transport(client, monkeypatch):
    await call(client, ("PING",))
    monkeypatch.setattr(line_module, "write_now", lambda *_: pytest.fail("written past the transport"))
    told = asyncio.get_running_loop().create_future()
    assert client.connection_pool.lines.begin([("ECHO", "x" * 100_000)], told.set_result) is not None
    async with asyncio.timeout(30):
        assert await told == [b"x" * 100_000]


async def test_a_line_with_half_a_reply_left_is_not_used_again():
    async def speak(reader, writer):
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n")
        await reader.readuntil(b"one\r\n")
        writer.write(b"+one\r\n+MO")
        await reader.read()

    async with served_by(speak) as lines:
        await lines.exchange([("PING",)])
        told = asyncio.get_running_loop().create_future()
        assert lines.begin([("ECHO", "one")], told.set_result) is not None
        async with asyncio.timeout(30):
            assert isinstance(await told, InvalidResponse)
        assert lines.begin([("ECHO", "two")], told.set_result) is None
