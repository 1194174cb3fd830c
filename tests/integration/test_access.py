"""The rights `barque doctor --acl` prints: enough for all a worker, a producer, a dashboard and a reader do."""

import asyncio
import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from arq import cron, func
from arq.connections import RedisSettings
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from common import Call, Context, Debounce, RetryPolicy, Unique, every, fixed, task
from common.embedded import EmbeddedServer
from common.errors import JobCancelled, RedisUnavailable, TaskFailed, TaskTimedOut
from common.jobs import JobState
from common.redis import access, keys
from common.redis.connection import connect
from common.redis.fleet import FleetReader
from common.redis.inspect import Inspector
from common.redis.server_report import read_server
from common.secret import Secret
from common.server_binary import installed_servers
from common.settings import Settings
from producer import Producer
from workers.worker import Worker

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery staple".replace(" ", "-")
QUEUES = ("high", "odd*[q]ue?ue")
EVERYWHERE = pytest.mark.parametrize("binary", installed_servers(), ids=lambda binary: binary.kind)
OTHERS = {"secret": "s", "arq:other": "s", "high:secret": "s", "higher": "s", "oddxqueue": "s", "barque": "s"}


@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def second_time(ctx: Context) -> int:
    if ctx.attempt == 1:
        raise ValueError("again")
    return ctx.attempt


@task(timeout=0.05, retry=RetryPolicy(max_attempts=1))
async def too_slow(ctx: Context) -> None:
    await asyncio.sleep(60)


@task(retry=RetryPolicy(max_attempts=1))
async def endless(ctx: Context) -> None:
    ctx.state["begun"].set()
    await asyncio.sleep(60)


@task
async def double(ctx: Context, number: int) -> int:
    return 2 * number


@task
async def tells(ctx: Context) -> None:
    ctx.progress(1, 2)
    await ctx.emit("first")
    ctx.progress(2, 2)


@task(keep_result=0)
async def forgotten(ctx: Context) -> str:
    await ctx.state["awaited"].wait()
    return "told once"


def printed(*arguments) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
    ended = subprocess.run(
        [sys.executable, "-m", "cli", "doctor", "--acl", *arguments],
        env=kept | {"PYTHONPATH": str(ROOT), "BARQUE_REDIS_URL": "redis://nowhere.invalid:1/0"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return ended.stdout


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return printed("--queues", ",".join(QUEUES)).splitlines()


@pytest.fixture
def guarded(lines):
    """Start a server with the users as they are printed, each with a password; return it."""
    started = []

    async def start(binary) -> EmbeddedServer:
        server = EmbeddedServer(binary=binary.path)
        server.start()
        started.append(server)
        admin = connect(Settings(redis_url=server.url))
        for line in lines:
            await admin.execute_command(*line.split())
        for role in access.ROLES:
            await admin.execute_command("ACL", "SETUSER", role.user, f">{PASSWORD}")
        await admin.execute_command("ACL", "LOG", "RESET")
        await admin.aclose()
        return server

    yield start
    for server in started:
        server.stop()


def who(role, server, **more) -> Settings:
    return Settings(
        redis_url=server.url, redis_username=role.user, redis_password=Secret(PASSWORD), queues=QUEUES, **more
    )


async def refusals(server) -> list[str]:
    """Return what was refused to anybody; redis-py's wish to name itself aside, which old servers do not know."""
    admin = connect(Settings(redis_url=server.url))
    try:
        found = await admin.acl_log()
        return [f"{entry['username']}: {entry['object']}" for entry in found if entry["object"] != "client|setinfo"]
    finally:
        await admin.aclose()


@EVERYWHERE
async def test_all_that_workers_producers_and_readers_do(binary, guarded, monkeypatch):
    monkeypatch.setenv("BARQUE_UNKNOWN_TASK_WAIT", "0")  # else it would wait for a worker that knows it
    server = await guarded(binary)
    ticked, begun, awaited = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def tick(ctx):
        ticked.set()

    async def parent(ctx):
        await ctx["redis"].enqueue_job("double", 4, _job_id="child", _queue_name="high")

    address = connect(who(access.WORKER, server)).connection_pool.connection_kwargs
    worker = Worker(
        [second_time, too_slow, endless, double, forgotten, tells, func(parent, name="parent")],
        queues=QUEUES,
        redis_settings=RedisSettings(
            host=address["host"], port=address["port"], username=access.WORKER.user, password=PASSWORD
        ),
        cron_jobs=[cron(tick, month=1, day=1, run_at_startup=True)],
        handle_signals=False,
        allow_abort_jobs=True,
        lease=1.0,
        ctx={"begun": begun, "awaited": awaited},
    )
    running = asyncio.create_task(worker.async_run())
    watching = connect(Settings(redis_url=server.url))
    try:
        async with asyncio.timeout(20), Producer(settings=who(access.PRODUCER, server)) as producer:
            await ticked.wait()
            for queue in QUEUES:
                assert await (await producer.enqueue(double(2), queue=queue)).result() == 4
            assert await producer.gather(*(double(n) for n in range(50))) == [2 * n for n in range(50)]
            assert await (await producer.enqueue(second_time(), job_id="mine", expires=60, delay=0.01)).result() == 2
            with pytest.raises(TaskTimedOut):
                await (await producer.enqueue(too_slow())).result()
            with pytest.raises(TaskFailed):
                await (await producer.enqueue(Call("no_such_task"))).result()
            await (await producer.enqueue(Call("parent"))).result()
            pushed = await producer.enqueue(forgotten())
            told = asyncio.create_task(pushed.result())
            while not await watching.hexists(keys.WAITERS, pushed.job_id):
                await asyncio.sleep(0.01)
            awaited.set()
            assert await told == "told once"
            telling = await producer.enqueue(tells())
            assert [progress.done async for progress in telling.watch()][-1] == 2
            assert [item.value async for item in telling.stream(str)] == ["first"]
            assert (await telling.progress()).fraction == 1.0
            await steer(producer)
            held = await producer.enqueue(endless())
            await begun.wait()
            assert await held.abort(wait=None)
            with pytest.raises(JobCancelled):
                await held.result()
            assert (await held.info()).state is JobState.CANCELLED
            await keep_schedules(producer)
            await look_on(server)
    finally:
        running.cancel()
        await asyncio.wait({running})
        await worker.close()
        await watching.aclose()
    assert await refusals(server) == []


async def steer(producer) -> None:
    assert await (await producer.enqueue(double(3), unique=Unique())).result() == 6
    for _ in range(2):
        quiet = await producer.enqueue(double(3), unique=Debounce(3600))
    assert (quiet.is_new, quiet.replaced, await quiet.abort()) == (False, True, True)
    waiting = await producer.enqueue(double(1), delay=3600)
    assert await waiting.status() is JobState.SCHEDULED
    await waiting.reschedule(delay=7200)
    assert (await producer.reenqueue(waiting.job_id, arguments={0: 2}, replace=True)).replaced
    assert (await producer.abort_where(task=double, state="scheduled")).cancelled == 1
    assert (await producer.purge("high")).cancelled == 0
    assert await (await producer.enqueue(double(1), delay=3600)).abort()
    assert (await producer.jobs(state=["running", "queued", "waiting", "scheduled"])).at_end
    assert (await producer.jobs(id="mine")).jobs[0].state is JobState.SUCCEEDED
    assert (await producer.jobs(task="no_such_task", state="dead")).jobs[0].is_dead
    for what in ({"queue": "high"}, {"task": double}):
        assert (await producer.pause(**what)).is_new
        assert len(await producer.pauses()) == 1
        assert await producer.resume(**what)


async def keep_schedules(producer) -> None:
    await producer.schedules.add("often", double(1), every(1), queue="high")
    await (await producer.schedules.run_now("often")).result()
    while (await producer.schedules.get("often")).runs < 2:
        await asyncio.sleep(0.05)
    assert await producer.schedules.pause("often")
    assert await producer.schedules.resume("often")
    assert [info.name for info in await producer.schedules.list()] == ["often"]
    assert await producer.schedules.remove("often")


async def look_on(server) -> None:
    client = connect(who(access.READER, server))
    try:
        inspector = Inspector(client)
        async with asyncio.timeout(20):
            while not (workers := await inspector.workers()):
                await asyncio.sleep(0.01)
        assert workers[0].queues == QUEUES
        assert (await inspector.queue("high")).queue == "high"
        assert (await inspector.job("mine", "high")).task == "second_time"
        assert await read_server(client) is not None
        fleet = FleetReader(client)
        async with fleet.observing() as may, fleet.follow(), asyncio.timeout(20):
            assert may
            while not (await fleet.snapshot()).observed:
                await asyncio.sleep(0.05)
        async with Producer(settings=who(access.READER, server)) as looking_on:
            assert (await looking_on.jobs(id="mine")).jobs[0].task == "second_time"
            assert (await looking_on.jobs(id="nobody")).jobs == ()
            assert await looking_on.pauses() == []
        health = await client.get(keys.health("high"))
        assert b"j_complete" in health
    finally:
        await client.aclose()


# In a script's error each server has other words for it.
_REFUSED = r"(?i)permission|ACL failure|script can't|not allowed from script"
FORBIDDEN = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "dir", "/tmp"),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("FUNCTION", "LIST"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "default", "nopass"),
    ("MODULE", "LIST"),
    ("SAVE",),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("MIGRATE", "127.0.0.1", "1", "arq:job:a", "0", "1"),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "TRACKING", "on", "bcast"),
    ("SWAPDB", "0", "1"),
    ("RENAME", "arq:job:a", "b"),
    ("DUMP", "secret"),
    ("SORT", "arq:abort", "BY", "nosort", "GET", "secret"),
    ("PSUBSCRIBE", "*"),
    ("SUBSCRIBE", "others"),
    ("PUBLISH", "others", "x"),
    *(("GET", name) for name in OTHERS),
    *(("SET", name, "x") for name in OTHERS),
    *(("MGET", "arq:job:a", name) for name in OTHERS),
    *(("EVAL", f"return redis.call('GET', '{name}')", "0") for name in OTHERS),
    ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ("EVAL", "return redis.call('CONFIG', 'GET', '*')", "0"),
]


@EVERYWHERE
@pytest.mark.parametrize("role", access.ROLES, ids=lambda role: role.user)
async def test_and_no_more(binary, guarded, role):
    server = await guarded(binary)
    admin = connect(Settings(redis_url=server.url))
    await admin.mset(OTHERS)
    client = connect(who(role, server))
    try:
        assert await client.ping()
        for command in FORBIDDEN:
            if role is access.DASHBOARD and command[0] == "SCAN":
                continue
            with pytest.raises((NoPermissionError, ResponseError), match=_REFUSED):
                await client.execute_command(*command)
        assert await admin.mget(*OTHERS) == [b"s"] * len(OTHERS)
    finally:
        await client.aclose()
        await admin.aclose()


@EVERYWHERE
async def test_a_reader_writes_nothing(binary, guarded):
    server = await guarded(binary)
    client = connect(who(access.READER, server))
    try:
        for command in [
            ("SET", "arq:job:a", "x"), ("DEL", "arq:job:a"), ("ZADD", "high", "1", "a"),
            ("PUBLISH", "barque:control", "x"), ("EVAL", "return 1", "0"), ("EXPIRE", "arq:job:a", "1"),
            ("GETDEL", "arq:job:a"),
        ]:  # fmt: skip
            with pytest.raises(NoPermissionError):
                await client.execute_command(*command)
    finally:
        await client.aclose()


@EVERYWHERE
async def test_a_list_says_that_it_leaves_results_out_as_a_producer_may_not_scan(binary, guarded):
    server = await guarded(binary)
    async with Producer(settings=who(access.PRODUCER, server)) as producer:
        job = await producer.enqueue(double(1), delay=60)
        page = await producer.jobs()
        assert ([info.job_id for info in page.jobs], page.results_refused, page.next) == ([job.job_id], True, None)
        with pytest.raises(RedisUnavailable, match="'scan' command"):
            await producer.jobs(state="failed")


@EVERYWHERE
async def test_a_dashboard_lists_them_and_does_what_a_producer_does(binary, guarded):
    server = await guarded(binary)
    async with Producer(settings=who(access.DASHBOARD, server)) as producer:
        job = await producer.enqueue(double(1), delay=60)
        assert await job.abort()
        page = await producer.jobs(state="cancelled")
        assert ([info.job_id for info in page.jobs], page.results_refused) == ([job.job_id], False)
    assert await refusals(server) == []


@EVERYWHERE
async def test_nobody_can_log_in_before_there_is_a_password(binary, lines):
    with EmbeddedServer(binary=binary.path) as server:
        admin = connect(Settings(redis_url=server.url))
        for line in lines:
            await admin.execute_command(*line.split())
        for role in access.ROLES:
            for password in ("", "x", "nopass"):
                with pytest.raises(AuthenticationError):
                    await admin.execute_command("AUTH", role.user, password)
        await admin.aclose()


def test_programs_get_the_rules_as_json():
    (line,) = printed("--json", "--queues", "high").splitlines()
    users = {user["user"]: user["rules"] for user in json.loads(line)["users"]}
    assert set(users) == {"barque-worker", "barque-producer", "barque-dashboard", "barque-reader"}
    assert all(rules[:2] == ["reset", "on"] for rules in users.values())
    assert "~high" in users["barque-producer"]
    wide = ("allkeys", "~*", "&*", "allchannels", "+@all", "allcommands", "nopass", ">", "#")
    assert [rule for rules in users.values() for rule in rules if rule.startswith(wide)] == []


def test_every_script_there_is_and_every_key_is_covered():
    files = {path.name.removesuffix(".lua") for path in (resources.files("common.redis") / "lua").iterdir()}
    assert access.PRODUCER.scripts <= files
    named = [getattr(keys, name) for name in keys.__all__ if name.isupper() and name != "HEALTH_SUFFIX"]
    worker = [pattern.rstrip("*") for pattern in (*access.WORKER.own_keys, *access.WORKER.channels)]
    assert [name for name in named if not name.startswith(tuple(worker))] == []


def test_a_queue_whose_name_no_rule_can_hold_matches_itself():
    rules = access.PRODUCER.rules(['a b"c\\d'])
    assert "~a?b?c\\\\d" in rules
    assert "~barque:wake:a?b?c\\\\d" in rules
