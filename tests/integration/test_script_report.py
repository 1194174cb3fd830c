"""report.lua and watch.lua through ProgressStore: written under the own lease alone, once, told to who follows."""

import asyncio

import pytest

from common.redis import keys
from common.redis.progress import WATCH_MS, ProgressStore, Report
from common.redis.push import Frame, frames
from common.redis.store import Enqueue, Store

TOKEN = "w:1:1"


@pytest.fixture
def progress(redis, keyspace) -> ProgressStore:
    return ProgressStore(redis)


@pytest.fixture
async def held(keyspace):
    await keyspace.seed({"arq:in-progress:a": (TOKEN.encode(), "60s"), "arq:in-progress:b": (b"w:2:5", "60s")})


def report(job_id="a", token=TOKEN, keep_ms=60_000, progress=None, first=1, items=()) -> Report:
    return Report(job_id, token, keep_ms, progress, first, list(items))


async def entries(redis, job_id="a") -> list[tuple[bytes, dict[bytes, bytes]]]:
    return await redis.xrange(keys.stream(job_id))


async def items(progress, job_id="a", after=None, most=100) -> list[tuple[int, bytes]]:
    return [(item.number, item.raw) for item in await progress.items(job_id, after=after, most=most)]


async def test_progress_replaces_progress(progress, held, redis):
    assert await progress.report([report(progress=b"one"), report("b", "w:2:5", progress=b"B")]) == [True, True]
    assert await progress.report([report(progress=b"two", keep_ms=90_000)]) == [True]
    assert (await progress.progress("a"), await progress.progress("b")) == (b"two", b"B")
    assert 60_000 < await redis.pttl(keys.progress("a")) <= 90_000
    assert await redis.exists(keys.stream("a")) == 0


async def test_a_report_of_nothing_only_renews(progress, held, redis):
    await progress.report([report(progress=b"one", items=[b"x"])])
    assert await progress.report([report(keep_ms=600_000)]) == [True]
    assert await progress.progress("a") == b"one"
    for key in (keys.progress("a"), keys.stream("a")):
        assert 60_000 < await redis.pttl(key) <= 600_000


async def test_what_is_kept_for_ever_has_no_ttl_until_it_has_one_again(progress, held, redis):
    await progress.report([report(progress=b"one", items=[b"x"], keep_ms=-1)])
    assert [await redis.pttl(key) for key in (keys.progress("a"), keys.stream("a"))] == [-1, -1]
    await progress.report([report(keep_ms=60_000)])
    assert await redis.pttl(keys.stream("a")) > 0


@pytest.mark.parametrize("holder", [None, b"w:2:2", b"1", b"done"])
async def test_without_the_lease_nothing_is_written(progress, keyspace, holder):
    await keyspace.seed({} if holder is None else {"arq:in-progress:a": (holder, "60s")})
    before = await keyspace.dump()
    assert await progress.report([report(progress=b"one", items=[b"x"])]) == [False]
    assert await keyspace.dump() == before


async def test_items_are_in_order_and_a_batch_sent_twice_is_there_once(progress, held):
    first = report(items=[b"x", b"y"])
    assert await progress.report([first]) == [True]
    assert await progress.report([first]) == [True]
    assert await progress.report([report(first=2, items=[b"y", b"z"])]) == [True]
    assert await items(progress) == [(1, b"x"), (2, b"y"), (3, b"z")]


async def test_another_run_takes_the_place_of_the_one_before(progress, held, keyspace, redis):
    await progress.report([report(items=[b"old"] * 3)])
    (*_, (last_old, _)) = await entries(redis)
    await keyspace.seed({"arq:in-progress:a": (b"v:2:9", "60s")})
    assert await progress.report([report(token="v:2:9", items=[b"new"])]) == [True]
    assert await items(progress) == [(1, b"new")]
    # Whoever asks for what comes after the last of the old ones gets the new ones from the first.
    assert await items(progress, after=last_old) == [(1, b"new")]
    assert await progress.report([report(items=[b"late"])]) == [False]


async def test_a_run_has_a_greater_number_than_any_before_whatever_the_clock_says(progress, held, redis):
    ahead = 2**53 - 10
    await redis.xadd(keys.stream("a"), {"run": "v:1:1"}, id=f"{ahead}-0")
    await progress.report([report(items=[b"x"])])
    assert (await entries(redis))[1][0] == f"{ahead + 1}-1".encode()


async def test_a_number_that_is_none_of_ours_stops_nothing(progress, held, redis):
    await redis.xadd(keys.stream("a"), {"theirs": "x"}, id=f"{2**64 - 1}-0")
    assert await progress.report([report(items=[b"x"])]) == [True]
    assert await items(progress) == [(1, b"x")]


async def test_a_stream_that_went_in_the_middle_goes_on_with_its_numbers(progress, held, redis):
    await progress.report([report(items=[b"x"])])
    await redis.delete(keys.stream("a"))
    await progress.report([report(first=2, items=[b"y"])])
    assert await items(progress) == [(2, b"y")]


@pytest.mark.parametrize("write", ["set", "hset", "lpush"])
async def test_keys_of_a_foreign_type_stop_nobody(progress, held, redis, write):
    for key in (keys.stream("a"), keys.watchers("a")):
        await {
            "set": lambda key: redis.set(key, b"theirs"),
            "hset": lambda key: redis.hset(key, "a", "b"),
            "lpush": lambda key: redis.lpush(key, "a"),
        }[write](key)
    assert await progress.report([report(progress=b"one", items=[b"x"]), report("b", "w:2:5", items=[b"y"])]) == [
        True,
        True,
    ]
    assert await items(progress) == [(1, b"x")]
    assert await progress.watch("c", ["a"]) == [b"one"]


async def test_an_empty_stream_and_its_pages(progress, held):
    assert await items(progress) == []
    await progress.report([report(items=[str(n).encode() for n in range(1, 11)])])
    page = await progress.items("a", after=None, most=4)
    assert [item.number for item in page] == [1, 2, 3, 4]
    page = await progress.items("a", after=page[-1].entry, most=4)
    assert [item.number for item in page] == [5, 6, 7, 8]
    page = await progress.items("a", after=page[-1].entry, most=4)
    assert [item.number for item in page] == [9, 10]
    assert await progress.items("a", after=page[-1].entry, most=4) == []


async def test_on_a_full_server_what_running_jobs_say_gets_through(progress, held, full):
    await full()
    assert await progress.report([report(progress=b"one", items=[b"x"])]) == [True]
    assert await progress.progress("a") == b"one"
    assert await items(progress) == [(1, b"x")]


async def test_any_bytes_are_an_id(progress, redis):
    odd = b"\xff \n{}*".decode(errors="surrogateescape")
    await redis.set(b"arq:in-progress:\xff \n{}*", TOKEN)
    assert await progress.report([report(odd, progress=b"P", items=[b"x"])]) == [True]
    assert await progress.progress(odd) == b"P"
    assert await items(progress, odd) == [(1, b"x")]


@pytest.fixture
async def channel(redis):
    """What a channel is told."""
    told: asyncio.Queue[Frame] = asyncio.Queue()
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("c")
        assert (await pubsub.get_message(timeout=10))["type"] == "subscribe"

        async def take() -> None:
            async for message in pubsub.listen():
                for frame in frames(message["data"]):
                    told.put_nowait(frame)

        taking = asyncio.create_task(take())
        yield told
        taking.cancel()
        await asyncio.wait({taking})


async def test_who_follows_is_told(progress, held, channel, redis):
    assert await progress.watch("c", ["a", "b"]) == [None, None]
    assert 0 < await redis.pttl(keys.watchers("a")) <= WATCH_MS
    await progress.report([report(progress=b"P", items=[b"x"]), report("b", "w:2:5", items=[b"y"])])
    async with asyncio.timeout(10):
        told = [await channel.get() for _ in range(3)]
    assert told == [Frame("a", b"P", False), Frame("a", None, False), Frame("b", None, False)]
    assert await progress.watch("c", ["a"]) == [b"P"]


async def test_what_only_renews_is_told_nobody(progress, held, channel):
    await progress.watch("c", ["a"])
    await progress.report([report()])
    await progress.report([report(progress=b"after")])
    async with asyncio.timeout(10):
        assert await channel.get() == Frame("a", b"after", False)


async def test_many_follow_one_job_and_those_whose_time_is_up_leave_the_list(progress, held, redis):
    now = (await redis.time())[0] * 1000
    await redis.set(keys.watchers("a"), f"gone {now - 60_000} here {now + 60_000}")
    await progress.watch("c", ["a"])
    await progress.watch("c", ["a"])
    names = (await redis.get(keys.watchers("a"))).decode().split()[::2]
    assert names == ["here", "c"]
    for number in range(100):
        await progress.watch(f"c{number}", ["a"])
    names = (await redis.get(keys.watchers("a"))).decode().split()[::2]
    assert names == [f"c{number}" for number in range(36, 100)]


async def test_an_id_that_is_enqueued_again_has_nothing_of_the_job_before(progress, held, redis):
    await progress.report([report(progress=b"P", items=[b"x"])])
    await redis.delete("arq:in-progress:a")
    assert await Store(redis).enqueue([Enqueue("q", "a", b"payload", fresh=False)]) == [True]
    assert await progress.progress("a") is None
    assert await items(progress) == []


async def test_what_is_erased_leaves_nothing(progress, keyspace, redis):
    await keyspace.seed({"arq:in-progress:a": (TOKEN.encode(), "60s")})
    await progress.watch("c", ["a"])
    await progress.report([report(progress=b"P", items=[b"x"])])
    await Store(redis).erase("q", ["a"])
    assert await keyspace.dump() == {}
