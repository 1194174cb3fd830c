"""Dead letters in Redis: replay_dead.lua and delete_dead.lua through DeadStore, paging, and what workers leave."""

import asyncio
from hashlib import sha1

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from common import Call, Context, RetryPolicy, task
from common.dead_letters import About, encode_about
from common.errors import TaskFailed
from common.redis.access import PRODUCER, READER, WORKER
from common.redis.connection import connect
from common.redis.dead_letters import MOST_AT_ONCE, REPLAY, DeadStore
from common.redis.store import Finish, HeldLease, Letter, Refusals, Store
from common.secret import Secret
from common.settings import Settings
from producer import Producer
from tests.support.running import run_worker
from workers.worker import Worker

__all__ = ["run_worker"]

AWAKE = {"due": 0}
RESULT = b"how it failed"
DIGEST = sha1(RESULT).hexdigest().encode()
LETTER = {"queue": b"q", "payload": b"P", "traceback": b"T", "result": DIGEST}
DEAD = {"barque:dead": {"a": "now-60s"}, "barque:dead:about": {"a": b"A"}, "barque:dead:letter:a": LETTER}
BACK = {"q": {"a": "now"}, "arq:job:a": b"P", "barque:wake:q": AWAKE}

REPLAYS = {
    # what is there: (keys besides the letter, delay ms, answer, what is there afterwards; None: the same)
    "nothing else": ({}, 0, "replayed", BACK),
    "its result goes with it": ({"arq:result:a": RESULT}, 0, "replayed", BACK),
    "what an attempt before left goes": (
        {"arq:retry:a": b"4", "barque:result:a": b"R", "barque:attempts:a": [b"E"]}, 0, "replayed", BACK,
    ),
    "a wish to abort it goes": ({"arq:abort": {"a": 5, "b": 6}}, 0, "replayed", {**BACK, "arq:abort": {"b": 6}}),
    "delayed it wakes whoever sleeps for longer": (
        {"q": {"z": "now+90s"}}, 60_000, "replayed", {**BACK, "q": {"a": "now+60s", "z": "now+90s"}},
    ),
    "delayed past others it wakes nobody": (
        {"q": {"z": 1}}, 60_000, "replayed", {"q": {"a": "now+60s", "z": 1}, "arq:job:a": b"P"},
    ),
    "other letters stay": (
        {"barque:dead": {"a": 1, "b": 2}, "barque:dead:about": {"a": b"A", "b": b"B"}}, 0, "replayed",
        {**BACK, "barque:dead": {"b": 2}, "barque:dead:about": {"b": b"B"}},
    ),
    "a job of its id is in a queue": ({"q": {"a": 5}, "arq:job:a": b"N"}, 0, "taken", None),
    "its id is in the queue, its payload expired": ({"q": {"a": 5}}, 0, "taken", None),
    "a job of its id runs": ({"arq:in-progress:a": (b"w:1:1", "60s")}, 0, "taken", None),
    "a cron tick of its id is not to run twice": ({"arq:in-progress:a": (b"done", "60s")}, 0, "taken", None),
    "a job of its id has ended since": ({"arq:result:a": b"well"}, 0, "taken", None),
    "its result is of a foreign type": ({"arq:result:a": {"f": b"x"}}, 0, "taken", None),
    "its letter is gone": ({"barque:dead:letter:a": {"queue": b"q"}}, 0, "missing", None),
    "its list is of a foreign type": (
        {"barque:dead": b"x", "barque:dead:about": b"y"}, 0, "replayed",
        {**BACK, "barque:dead": b"x", "barque:dead:about": b"y"},
    ),
}  # fmt: skip


@pytest.fixture
def dead(redis) -> DeadStore:
    return DeadStore(redis)


@pytest.mark.parametrize("case", REPLAYS)
async def test_replay(case, keyspace, dead):
    besides, delay_ms, answer, after = REPLAYS[case]
    before = {**DEAD, **besides}
    await keyspace.seed(before)
    assert await dead.replay(["a"], delay_ms=delay_ms) == [answer]
    assert await keyspace.dump() == (before if after is None else after)


async def test_replayed_twice_at_once_it_is_there_once(keyspace, dead):
    await keyspace.seed(DEAD)
    answers = await asyncio.gather(*(dead.replay(["a"], delay_ms=0) for _ in range(5)))
    assert sorted(answer for (answer,) in answers) == ["missing"] * 4 + ["replayed"]
    assert await keyspace.dump() == BACK


async def test_each_goes_back_to_its_own_queue(keyspace, dead):
    await keyspace.seed({**DEAD, "barque:dead:letter:b": {**LETTER, "queue": b"r"}})
    assert await dead.replay(["b", "nowhere", "a"], delay_ms=0) == ["replayed", "missing", "replayed"]
    after = await keyspace.dump()
    assert (after["q"], after["r"]) == ({"a": "now"}, {"b": "now"})


async def test_a_letter_that_moved_to_another_queue_meanwhile_is_missing(keyspace, dead):
    await keyspace.seed(DEAD)
    reply = await REPLAY(dead.client, ("r",), (0, b"a"))
    assert reply == [-1]
    assert await keyspace.dump() == DEAD


async def test_a_full_server_keeps_the_letter(keyspace, dead, full):
    await keyspace.seed(DEAD)
    await full()
    with pytest.raises(OutOfMemoryError):
        await dead.replay(["a"], delay_ms=0)
    assert await keyspace.dump() == DEAD


async def test_a_queue_of_a_foreign_type_keeps_the_letter(keyspace, dead):
    before = {**DEAD, "q": b"x"}
    await keyspace.seed(before)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await dead.replay(["a"], delay_ms=0)
    assert await keyspace.dump() == before


async def test_deleted_nothing_of_it_is_left_and_all_else_stays(keyspace, dead):
    await keyspace.seed({**DEAD, "arq:result:a": RESULT, "q": {"a": 5}, "arq:job:a": b"N"})
    assert await dead.delete(["a", "nowhere"]) == 1
    assert await keyspace.dump() == {"arq:result:a": RESULT, "q": {"a": 5}, "arq:job:a": b"N"}
    assert await dead.delete(["a"]) == 0
    assert await dead.delete([]) == 0


@pytest.mark.parametrize(
    ("others", "kept"),
    [
        ({}, None),
        ({"arq:result:a": (RESULT, "60s")}, ([b"E"], "60s")),
        ({"arq:result:a": RESULT}, ([b"E"], "600s")),
        ({"q": {"a": 5}, "arq:job:a": b"N"}, ([b"E"], "600s")),
    ],
)
async def test_the_history_of_a_deleted_one_is_kept_as_long_as_something_else_tells_of_it(others, kept, keyspace, dead):
    await keyspace.seed({**DEAD, **others, "barque:attempts:a": ([b"E"], "600s")})
    await dead.delete(["a"])
    assert await keyspace.dump() == {**others, **({} if kept is None else {"barque:attempts:a": kept})}


@pytest.mark.parametrize("newest_first", [True, False])
async def test_pages_follow_one_another_without_a_gap_though_all_came_at_once(newest_first, keyspace, dead, redis):
    count = 2 * MOST_AT_ONCE + 7
    await redis.mset({f"arq:in-progress:{n}": b"w:1:1" for n in range(count)})
    letter = Letter(b"P", b"A", b"", 600_000, 10_000)
    outcomes = [Finish(HeldLease(0, f"{n}", "w:1:1", 1), b"R", 0, letter=letter) for n in range(count)]
    await Store(redis).complete(("q",), outcomes)
    found, after = [], None
    while True:
        page = await dead.page(newest_first=newest_first, after=after, since_ms=None, until_ms=None, most=MOST_AT_ONCE)
        found += [int(filed.job_id) for filed in page.letters]
        if len(page.letters) < MOST_AT_ONCE:
            break
        after = page.letters[-1].score
        await dead.delete([page.letters[-1].job_id])  # what was seen may go meanwhile
    assert found == (list(range(count))[::-1] if newest_first else list(range(count)))


async def test_ids_may_be_any_bytes_and_records_too(keyspace, dead, redis):
    await redis.zadd("barque:dead", {b"\xff": 5, "b": 6})
    await redis.hset("barque:dead:about", b"\xff", b"no record")
    await redis.hset(b"barque:dead:letter:\xff", mapping=LETTER)
    async with Producer(redis_url_of(redis)) as producer:
        letters = (await producer.dead.list()).letters
        assert [(letter.job_id, letter.reason) for letter in letters] == [("b", "unknown"), ("\udcff", "unknown")]
    assert (await dead.get("\udcff")).payload == b"P"
    assert await dead.replay(["\udcff"], delay_ms=0) == ["replayed"]
    assert await redis.zscore("q", b"\xff") is not None


def redis_url_of(client) -> str:
    options = client.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/{options['db']}"


async def test_what_is_over_age_is_not_shown_though_nothing_swept_it_yet(keyspace, redis, dead):
    now = await keyspace.now_ms()
    await redis.zadd("barque:dead", {"old": now - 9000, "new": now})
    for job_id, until in (("old", now - 1000), ("new", now + 60_000)):
        await redis.hset("barque:dead:about", job_id, encode_about(About(task="t", until_ms=until)))
    async with Producer(redis_url_of(redis)) as producer:
        assert [letter.job_id for letter in (await producer.dead.list()).letters] == ["new"]


@task(retry=RetryPolicy(max_attempts=1))
async def break_down(ctx: Context, secret: str) -> None:
    raise ValueError("\ud800" + "x" * 10_000)


@pytest.mark.leaves_keys("arq:result:*")
async def test_a_signed_job_is_replayed_with_its_signature(redis_url, redis):
    keys = Secret("new:" + "0123456789abcdef" * 2)
    settings = Settings(redis_url=redis_url, signing_keys=keys)
    worker = Worker([break_down], settings=settings, redis_pool=None, handle_signals=False, poll_delay=0.05)
    running = asyncio.create_task(worker.async_run())
    try:
        async with Producer(settings=settings) as producer:
            for _ in range(2):
                job = await producer.enqueue(break_down("s"), job_id="signed")
                with pytest.raises(TaskFailed):
                    await job.result(timeout=10)
                assert (await producer.dead.get("signed")).unreadable is None
                assert (await producer.dead.replay("signed")).replayed == 1
                with pytest.raises(TaskFailed):
                    await producer.job("signed").result(timeout=10)
                letter = await producer.dead.get("signed")
                assert (letter.reason, letter.arguments) == ("failed", ("s",))
                assert len(letter.error.message) < 5000
                await redis.delete("arq:result:signed")
        async with Producer(redis_url) as keyless:
            assert (await keyless.dead.get("signed")).arguments == ("s",)
        other = Settings(redis_url=redis_url, signing_keys=Secret("other:" + "fedcba9876543210" * 2))
        async with Producer(settings=other) as stranger:
            assert "not in BARQUE_SIGNING_KEYS" in (await stranger.dead.get("signed")).unreadable
    finally:
        running.cancel()
        await asyncio.wait({running})
        await worker.close()


async def fail_at_once(ctx, number):
    raise LookupError(f"no {number}")


@pytest.mark.leaves_keys("arq:result:*")
async def test_a_plain_function_of_arqs_leaves_one_too(run_worker, redis_url):
    await run_worker(fail_at_once)
    async with Producer(redis_url) as producer:
        job = await producer.enqueue(Call("fail_at_once", 7))
        with pytest.raises(TaskFailed):
            await job.result(timeout=10)
        letter = await producer.dead.get(job.job_id)
    assert (letter.reason, letter.task, letter.arguments) == ("failed", "fail_at_once", (7,))


@pytest.fixture
async def as_role(redis):
    """`await as_role(READER)`: a client with the rights of that role, as they are printed, on the queue q."""
    clients, users = [], []
    options = redis.connection_pool.connection_kwargs

    async def log_in(role):
        await redis.execute_command("ACL", "SETUSER", *role.command(["q"]).split()[2:], "nopass")
        users.append(role.user)
        where = f"{options['host']}:{options['port']}/{options['db']}"
        clients.append(connect(Settings(redis_url=f"redis://{role.user}:x@{where}")))
        return clients[-1]

    yield log_in
    for client in clients:
        await client.aclose()
    await redis.execute_command("ACL", "DELUSER", *users)


async def test_a_reader_can_look_and_not_touch(keyspace, as_role):
    await keyspace.seed({**DEAD, "barque:dead:about": {"a": encode_about(About(task="t"))}})
    looking = DeadStore(await as_role(READER))
    page = await looking.page(newest_first=True, after=None, since_ms=None, until_ms=None, most=5)
    assert [filed.job_id for filed in page.letters] == ["a"]
    assert (await looking.get("a")).payload == b"P"
    assert await looking.count() == 1
    with pytest.raises(ResponseError, match=r"(?i)noperm|permission"):
        await looking.delete(["a"])


async def test_a_producer_can_replay_and_delete(keyspace, as_role):
    await keyspace.seed({**DEAD, "barque:dead": {"a": 1, "b": 2}, "barque:dead:letter:b": LETTER})
    acting = DeadStore(await as_role(PRODUCER))
    assert await acting.replay(["a"], delay_ms=0) == ["replayed"]
    assert await acting.delete(["b"]) == 1
    assert await keyspace.dump() == BACK


async def test_a_worker_can_bury(keyspace, as_role):
    await keyspace.seed({"arq:in-progress:a": b"w:1:1"})
    outcome = Finish(HeldLease(0, "a", "w:1:1", 1), RESULT, 0, letter=Letter(b"P", b"A", b"T", 600_000, 1))
    assert await Store(await as_role(WORKER)).complete(("q",), [outcome]) == Refusals([], [])
    assert (await keyspace.dump())["barque:dead:letter:a"] == (LETTER, "600s")
