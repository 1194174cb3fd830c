"""`barque jobs` and `barque job` as programs, against a real server."""

import json

import pytest

from common import Call
from producer import Producer
from tests.integration.test_cli import barque, run
from tests.integration.test_listing import one_of_each

__all__ = ["barque", "run"]


async def test_all_jobs_in_a_table_without_their_arguments(run, keyspace, redis):
    await one_of_each(keyspace)
    await redis.zadd("arq:queue", {"odd\x1b[2J": 7})
    await redis.set("arq:job:odd\x1b[2J", b"garbage")
    shown = await run("jobs", COLUMNS="140")
    assert shown.code == 0, shown.err
    lines = {line.split()[0]: line.split() for line in shown.out.splitlines() if line[:1].strip()}
    assert lines["Job"] == ["Job", "State", "Task", "Tries", "When"]
    states = {job_id: lines[job_id][1] for job_id in ("queued", "running", "waiting", "scheduled", "dead", "ended")}
    assert states == {job_id: job_id for job_id in states}
    assert "host-1-abc" in shown.out
    assert "app.Broken: no dead" in shown.out
    assert "unreadable" in shown.out
    assert "\x1b" not in shown.out
    assert '"u"' not in shown.out
    assert 'fetch("u")' in (await run("jobs", "--arguments", COLUMNS="140")).out


async def test_a_page_names_the_next_one(run, keyspace):
    await one_of_each(keyspace)
    first = await run("jobs", "--limit", "3", "--state", "queued,running,dead")
    assert "3 jobs shown" in first.err
    cursor = first.err.split("--cursor ")[1].split()[0]
    options = ("--state", "running, dead,queued", "--all", "--json")
    rest = [json.loads(line) for line in (await run("jobs", "--cursor", cursor, *options)).out.splitlines()]
    found = [job["job_id"] for page in rest for job in page["jobs"]]
    assert found == ["laned", "dead"]
    assert rest[-1]["next"] is None
    assert "arguments" not in rest[0]["jobs"][0]


async def test_filters(run, keyspace):
    await one_of_each(keyspace)
    options = ("--state", "dead, failed", "--error", "no DEAD", "--task", "fe*", "--queue", "arq:queue", "--json")
    found = (await run("jobs", *options)).document
    assert [job["job_id"] for job in found["jobs"]] == ["dead"]


async def test_one_job(run, keyspace):
    await one_of_each(keyspace)
    shown = await run("job", "dead")
    assert shown.code == 0, shown.err
    assert "app.Broken: no dead" in shown.out
    assert "tb" in shown.out.splitlines()
    assert "barque dead replay dead" in shown.err
    assert '["u"]' not in shown.out
    gone = await run("job", "nobody")
    assert (gone.code, gone.out) == (1, "")
    assert "There is no job nobody" in gone.err


@pytest.mark.leaves_keys("arq:result:*")
async def test_one_job_whose_queue_nobody_serves(run, redis_url):
    async with Producer(redis_url) as producer:
        job = await producer.enqueue(Call("greet", "Ada"), queue="nobody's", job_id="lonely")
        document = (await run("job", "lonely", "--queue", "nobody's", "--json", "--arguments")).document
        assert (document["state"], document["arguments"]) == ("queued", ["Ada"])
        await job.abort()


@pytest.mark.leaves_keys("arq:result:*", "arq:*", "barque:*")
async def test_purging_asks_unless_it_is_told_not_to(run, keyspace, redis):
    await one_of_each(keyspace)
    refused = await run("purge", "arq:queue")
    assert refused.code == 2
    assert "--yes" in refused.err
    done = (await run("purge", "arq:queue", "--yes", "--json")).document
    assert (done["queue"], done["cancelled"]) == ("arq:queue", 5)
    assert sorted(await redis.zrange("arq:queue", 0, -1)) == [b"running", b"stock"]


@pytest.mark.leaves_keys("arq:*", "barque:*")
async def test_enqueueing_again_with_another_argument(run, redis_url):
    async with Producer(redis_url) as producer:
        await producer.enqueue(Call("greet", "Ada", after=1), job_id="ada", delay=60)
        done = await run("reenqueue", "ada", "--argument", "0=Grace", "--queue", "low", "--replace", "--no-check")
        assert done.code == 0, done.err
        assert "job ada was taken away" in done.err
        info = await producer.job(done.out.strip(), queue="low").info()
        assert (info.arguments, dict(info.keyword_arguments)) == (("Grace",), {"after": 1})
        await producer.purge("low")
