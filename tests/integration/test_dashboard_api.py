"""The JSON API on a real server: what each operation does, what it says when it cannot, and what it does not show."""

import asyncio
import json
from datetime import UTC, datetime

import httpx
import pytest

from common import Call, ConcurrencyLimit, Context, RetryPolicy, every, fixed, task
from common.errors import TaskFailed
from common.jobs import JobState
from common.redis import keys
from common.redis.access import ROLES
from dashboard.api.openapi import document_of
from dashboard.api.routes import OPERATIONS
from dashboard.routing import path_to
from tests.support.dashboards import dashboard
from tests.support.proxy import Proxy
from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker"]

pytestmark = pytest.mark.leaves_keys

ROOT = "/api/v1"


@task(name="api_pay", retry=RetryPolicy(max_attempts=1))
async def pay(ctx: Context, customer: str, amount: int = 1, *, password: str = "") -> dict:
    if amount < 0:
        raise ValueError(f"{customer} cannot pay with password={password}")
    return {"paid": amount, "token": "hunter2", "to": customer}


@task(name="api_hold", limits=[ConcurrencyLimit(1, name="api_hold_limit")])
async def hold(ctx: Context) -> None:
    await asyncio.sleep(60)


class Api:
    """Asks, and says what came back if it is not what was expected."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def __call__(self, method: str, path: str, body=None, *, status: int = 200, **query):
        content = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        response = await self.client.request(method, ROOT + path, content=content, headers=headers, params=query)
        assert response.status_code == status, response.text
        if status >= 400:
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["status"] == status
        return response.json()

    async def enqueue(self, name: str, *arguments, status: int = 201, **options):
        return await self("POST", "/jobs", {"task": name, "arguments": arguments, **options}, status=status)


@pytest.fixture
async def api(redis_url):
    async with dashboard(redis_url) as client:
        yield Api(client)


class TestEnqueueing:
    async def test_a_job_is_there_when_it_is_answered(self, api, producer):
        made = await api.enqueue("mail", "ann", keyword_arguments={"subject": "hi"}, delay=60, metadata={"order": 7})
        assert (made["queue"], made["is_new"], made["replaced"]) == ("arq:queue", True, False)
        info = await producer.job(made["job_id"]).info()
        assert (info.task, info.arguments, info.keyword_arguments) == ("mail", ("ann",), {"subject": "hi"})
        assert (info.state, info.metadata) == (JobState.SCHEDULED, {"order": 7})

    async def test_an_id_of_ones_own_is_there_once(self, api):
        first = await api.enqueue("mail", job_id="mail/7")
        again = await api.enqueue("mail", job_id="mail/7", status=200)
        assert first["href"] == again["href"] == f"{ROOT}/jobs/mail%2F7"
        assert (first["is_new"], again["is_new"]) == (True, False)

    async def test_every_option_is_understood(self, api, producer):
        made = await api.enqueue(
            "mail", queue="low", at="2031-01-01T00:00:00Z", timeout=5, soft_timeout=2, max_attempts=3, priority="high",
            fair_key="ann", limit_key="k", limit_cost=2.5, deadline="2032-01-01T00:00:00+01:00",
        )  # fmt: skip
        info = await producer.job(made["job_id"], queue="low").info()
        assert (info.due_at, info.priority) == (datetime(2031, 1, 1, tzinfo=UTC), 3)

    @pytest.mark.parametrize(
        ("unique", "status", "replaced"),
        [
            ({"kind": "unique"}, 200, False),
            ({"kind": "unique", "until": None, "for": 60, "on_conflict": "replace"}, 200, True),
            ({"kind": "debounce", "quiet": 60, "at_most": 90}, 200, True),
            ({"kind": "throttle", "per": 60}, 200, False),
            ({"kind": "unique", "on_conflict": "reject"}, 409, None),
            (False, 201, False),
        ],
    )
    async def test_a_job_may_be_unique(self, api, unique, status, replaced):
        options = {"unique": unique, "unique_key": ["ann"]} if unique else {"unique": unique}
        await api.enqueue("mail", 1, **options)
        again = await api.enqueue("mail", 2, **options, status=status)
        assert again.get("replaced") is replaced

    @pytest.mark.parametrize(
        ("wrong", "where", "status"),
        [
            ({"delay": -1}, "body.delay", 422),
            ({"delay": "soon"}, "body.delay", 422),
            ({"dely": 1}, "body", 422),
            ({"at": "2031-01-01T00:00:00"}, "body.at", 422),
            ({"max_attempts": 0}, "body.max_attempts", 422),
            ({"priority": 10}, "body.priority", 422),
            ({"unique": {"kind": "other"}}, "body.unique.kind", 422),
            ({"arguments": {}}, "body.arguments", 422),
        ],
    )
    async def test_what_is_wrong_is_told_with_its_place(self, api, wrong, where, status):
        problem = (
            await api.enqueue("mail", **wrong, status=status)
            if "arguments" not in wrong
            else await api("POST", "/jobs", {"task": "mail", **wrong}, status=status)
        )
        assert problem["faults"][0]["where"] == where
        assert problem["type"] == "unfit"

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"delay": 1, "at": "2031-01-01T00:00:00Z"}, "give delay= or at="),
            ({"delay": 60, "expires": 5}, "is over before the job is due"),
            ({"queue": "a b"}, "queue"),
            ({"job_id": "a\nb"}, "job_id"),
            ({"unique_key": 1}, "say with unique="),
            ({"timeout": 1, "soft_timeout": 2}, "soft_timeout"),
        ],
    )
    async def test_what_contradicts_itself_is_told(self, api, options, why):
        problem = await api.enqueue("mail", **options, status=422)
        assert (problem["type"], why in problem["detail"]) == ("configuration-error", True)

    async def test_arguments_are_checked_where_the_task_is_known_here(self, api):
        @task(name="api_known", priority="high")
        async def known(ctx: Context, amount: int) -> None: ...

        problem = await api.enqueue("api_known", "hunter2", status=422)
        assert problem["type"] == "argument-mismatch"
        assert "argument amount" in problem["detail"]
        assert "hunter2" not in problem["detail"]
        made = await api.enqueue("api_known", 5)
        assert (await api("GET", f"/jobs/{made['job_id']}"))["priority"] == 3

    @pytest.mark.parametrize(
        "body", ['{"task": "a"', "[]", "null", '"a"', '{"task": "\\ud800"}', '{"task": 1e999}', "[" * 9999]
    )
    async def test_what_is_no_json_is_told(self, api, body):
        response = await api.client.post(f"{ROOT}/jobs", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code in {400, 422}

    @pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", ""])
    async def test_what_a_form_of_another_site_could_send_is_not_read(self, api, media):
        response = await api.client.post(f"{ROOT}/jobs", content='{"task": "a"}', headers={"Content-Type": media})
        assert response.status_code == 415

    async def test_one_that_is_too_large_is_refused(self, api):
        assert (await api.enqueue("mail", "x" * 1_100_000, status=413))["type"] == "payload-too-large"


class TestJobs:
    async def test_one_is_shown_with_its_secrets_masked(self, api, producer):
        job = await producer.enqueue(Call("mail", "ann", password="hunter2", deep=[{"api_key": "hunter2"}]))
        shown = await api("GET", f"/jobs/{job.job_id}")
        assert "hunter2" not in str(shown)
        assert (shown["arguments"], shown["state"], shown["task"]) == (["ann"], "queued", "mail")

    async def test_nothing_is_shown_where_nothing_is_to_be(self, redis_url, producer):
        job = await producer.enqueue(Call("mail", "ann@example.org", subject="hi", job=1), metadata={"order": "o7"})
        async with dashboard(redis_url, arguments="none") as client:
            shown = (await client.get(f"{ROOT}/jobs/{job.job_id}")).text
        assert "ann@example" not in shown
        assert '"o7"' not in shown

    async def test_they_are_listed_by_what_they_are_a_page_at_a_time(self, api, producer):
        for number in range(5):
            await producer.enqueue(Call("mail" if number < 3 else "text", number), job_id=f"j{number}")
        first = await api("GET", "/jobs", task="mail", limit=2)
        rest = await api("GET", "/jobs", task="mail", limit=2, cursor=first["next"])
        assert [each["job_id"] for each in [*first["jobs"], *rest["jobs"]]] == ["j0", "j1", "j2"]
        several = await api("GET", "/jobs", state=["queued", "running"])
        assert len(several["jobs"]) == 5
        assert (await api("GET", "/jobs", state="scheduled"))["jobs"] == []
        problem = await api("GET", "/jobs", task="text", cursor=first["next"], status=422)
        assert "other filters" in problem["detail"]

    @pytest.mark.parametrize("query", [{"state": "gone"}, {"limit": 0}, {"limit": "x"}, {"colour": "red"}])
    async def test_a_wrong_filter_is_told(self, api, query):
        assert (await api("GET", "/jobs", **query, status=422))["faults"][0]["where"].startswith("query")

    async def test_its_id_may_be_any_bytes(self, api, redis):
        job_id = "a/b ?\udcff%2F"
        raw = job_id.encode(errors="surrogateescape")
        await redis.zadd("arq:queue", {raw: 1})
        await redis.set(b"arq:job:" + raw, b"no job")
        shown = await api("GET", path_to("/jobs/{job_id}", job_id=job_id))
        assert shown["href"].endswith("/jobs/a%2Fb%20%3F%FF%252F")
        listed = await api("GET", "/jobs")
        assert [each["href"] for each in listed["jobs"]] == [shown["href"]]
        address = path_to("/jobs/{job_id}", job_id=job_id)
        await api("POST", f"{address}/reschedule", {"delay": 60})
        assert (await api("POST", f"{address}/abort"))["aborted"] is True
        assert (await api("GET", f"{address}/result"))["state"] == "cancelled"
        await api("GET", path_to("/dead/{job_id}", job_id=job_id), status=404)
        await api("POST", path_to("/queues/{queue}/pause", queue=job_id))
        await api("GET", path_to("/queues/{queue}", queue=job_id))
        await api("POST", path_to("/queues/{queue}/resume", queue=job_id))

    async def test_none_is_told(self, api):
        for path in ("/jobs/nowhere", "/jobs/nowhere/result"):
            assert "there is no such job" in (await api("GET", path, status=404))["detail"]
        assert "there is no such job" in (await api("POST", "/jobs/nowhere/abort", status=404))["detail"]

    async def test_one_that_waits_is_rescheduled_and_aborted(self, api):
        made = await api.enqueue("mail", queue="low", job_id="one")
        moved = await api("POST", "/jobs/one/reschedule", {"at": "2031-01-01T00:00:00Z"}, queue="low")
        assert moved["due_at"] == "2031-01-01T00:00:00Z"
        both = await api(
            "POST", "/jobs/one/reschedule", {"delay": 1, "at": "2031-01-01T00:00:00Z"}, queue="low", status=422
        )
        assert both["type"] == "configuration-error"
        ended = await api("POST", "/jobs/one/abort", queue="low")
        assert (ended["aborted"], ended["state"], made["job_id"]) == (True, "cancelled", "one")
        late = await api("POST", "/jobs/one/reschedule", {"delay": 1}, queue="low", status=409)
        assert late["type"] == "job-not-waiting"
        assert (await api("POST", "/jobs/one/abort"))["aborted"] is False

    async def test_one_is_enqueued_again_with_other_arguments(self, api, producer):
        await api.enqueue("mail", "ann", keyword_arguments={"subject": "hi"}, job_id="one", metadata={"order": 7})
        change = {"arguments": {"0": "bob", "subject": "ho"}, "new_id": "two", "replace": True, "delay": 60}
        made = await api("POST", "/jobs/one/reenqueue", change, status=201)
        assert (made["job_id"], made["earlier"], made["earlier_replaced"]) == ("two", "queued", True)
        info = await producer.job("two").info()
        assert (info.arguments, info.keyword_arguments, info.metadata) == (("bob",), {"subject": "ho"}, {"order": 7})
        assert (await api("GET", "/jobs/one"))["state"] == "cancelled"
        again = await api("POST", "/jobs/two/reenqueue", {"new_id": "one"}, status=200)
        assert again["is_new"] is False
        await api("POST", "/jobs/nowhere/reenqueue", status=404)
        problem = await api("POST", "/jobs/two/reenqueue", {"arguments": {"7": 1}}, status=422)
        assert "has 1 arguments by place" in problem["detail"]


class TestResults:
    async def test_it_is_waited_for(self, api, run_worker):
        made = await api.enqueue("api_pay", "ann", 5)
        assert (await api("GET", f"/jobs/{made['job_id']}/result", status=202))["ended"] is False
        waiting = asyncio.create_task(api("GET", f"/jobs/{made['job_id']}/result", wait=30))
        await run_worker(pay)
        found = await waiting
        assert (found["state"], found["result"]) == ("succeeded", {"paid": 5, "token": "***", "to": "ann"})
        assert await api("GET", f"/jobs/{made['job_id']}/result") == found

    async def test_where_all_is_shown_it_is_whole(self, redis_url, run_worker):
        async with dashboard(redis_url, arguments="all", longest_value=16) as client:
            api = Api(client)
            made = await api.enqueue("api_pay", "ann" * 20)
            await run_worker(pay)
            found = await api("GET", f"/jobs/{made['job_id']}/result", wait=30)
        assert found["result"] == {"paid": 1, "token": "hunter2", "to": "ann" * 20}

    async def test_a_failure_is_told_with_its_error(self, api, run_worker):
        made = await api.enqueue("api_pay", "ann", -1, keyword_arguments={"password": "hunter2"})
        await run_worker(pay)
        found = await api("GET", f"/jobs/{made['job_id']}/result", wait=30)
        assert (found["state"], found["ended"], found["result"]) == ("failed", True, None)
        assert found["error"]["type"] == "builtins.ValueError"
        assert found["error"]["message"] == "ann cannot pay with password=***"
        assert "in pay" in found["error"]["traceback"]
        assert "hunter2" not in str(await api("GET", f"/jobs/{made['job_id']}"))
        assert found["error"] == (await api("GET", f"/jobs/{made['job_id']}/result"))["error"]

    async def test_its_attempts_are_told_one_after_the_other(self, api, run_worker):
        @task(name="api_twice", retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
        async def twice(ctx: Context) -> None:
            if ctx.attempt == 1:
                raise ValueError("token=hunter2")

        made = await api.enqueue("api_twice")
        await run_worker(twice)
        await api("GET", f"/jobs/{made['job_id']}/result", wait=30)
        shown = await api("GET", f"/jobs/{made['job_id']}")
        assert [(each["number"], each["outcome"]) for each in shown["attempts"]] == [(1, "retried"), (2, "succeeded")]
        assert (shown["attempts"][0]["error"]["message"], shown["attempts_dropped"]) == ("token=***", 0)
        assert "hunter2" not in str(shown)

    async def test_one_that_is_kept_for_nobody_is_had_by_who_waits(self, api, run_worker, redis):
        made = await api.enqueue("api_pay", "ann", 5)
        waiting = asyncio.create_task(api("GET", f"/jobs/{made['job_id']}/result", wait=30))
        async with asyncio.timeout(30):
            while not await redis.hexists(keys.WAITERS, made["job_id"]):
                await asyncio.sleep(0.02)
        await run_worker(pay, keep_result=0)
        assert (await waiting)["result"]["paid"] == 5

    async def test_nobody_waits_for_longer_than_is_allowed(self, api):
        await api.enqueue("mail", job_id="one")
        assert (await api("GET", "/jobs/one/result", wait=61, status=422))["faults"][0]["where"] == "query.wait"
        assert (await api("GET", "/jobs/one/result", wait=0.01, status=202))["state"] == "queued"


class TestQueues:
    async def test_they_are_paused_with_who_and_why_and_resumed(self, api):
        await api.enqueue("mail")
        made = await api("POST", "/queues/arq:queue/pause", {"reason": "moving"})
        assert (made["is_new"], made["pause"]["by"], made["pause"]["reason"]) == (True, "dashboard", "moving")
        assert (await api("POST", "/queues/arq:queue/pause"))["is_new"] is False
        (listed,) = (await api("GET", "/queues"))["queues"]
        assert (listed["queued"], listed["paused"]["reason"]) == (1, "moving")
        assert (await api("GET", "/pauses"))["pauses"] == [listed["paused"]]
        assert (await api("POST", "/queues/arq:queue/resume"))["was_paused"] is True
        assert (await api("POST", "/queues/arq:queue/resume"))["was_paused"] is False
        assert (await api("GET", "/queues/arq:queue"))["paused"] is None

    async def test_tasks_are_too(self, api):
        assert (await api("POST", "/tasks/mail/pause", {}))["pause"]["kind"] == "task"
        assert (await api("POST", "/tasks/mail/resume"))["was_paused"] is True

    async def test_a_queue_is_purged_of_what_waits(self, api):
        for number in range(3):
            await api.enqueue("mail", job_id=f"j{number}", delay=number * 60)
        done = await api("POST", "/queues/arq:queue/purge", {"keep_results": False})
        assert done == {"cancelled": 3, "looked_at": 3, "done": True}
        assert (await api("GET", "/queues/arq:queue"))["scheduled"] == 0
        await api("GET", "/jobs/j0", status=404)

    async def test_one_that_takes_too_long_says_that_there_is_more(self, api, monkeypatch):
        monkeypatch.setattr("dashboard.api.queues._PURGE_FOR", 0.0)
        await api.enqueue("mail")
        assert (await api("POST", "/queues/arq:queue/purge", status=202))["done"] is False

    async def test_a_reason_without_end_is_refused(self, api):
        problem = await api("POST", "/queues/low/pause", {"reason": "x" * 501}, status=422)
        assert problem["faults"][0]["where"] == "body.reason"


class TestDeadLetters:
    @pytest.fixture
    async def dead(self, producer, run_worker):
        await run_worker(pay)
        for name in ("ann", "bob", "eve"):
            with pytest.raises(TaskFailed):
                await (await producer.enqueue(pay(name, -1, password="hunter2"), job_id=name)).result(timeout=30)

    async def test_they_are_listed_shown_and_deleted(self, api, dead):
        first = await api("GET", "/dead", limit=2, error="ValueError")
        rest = await api("GET", "/dead", limit=2, error="ValueError", after=first["next"])
        assert [each["job_id"] for each in [*first["letters"], *rest["letters"]]] == ["eve", "bob", "ann"]
        shown = await api("GET", "/dead/ann")
        assert (shown["arguments"], shown["keyword_arguments"]) == (["ann", -1], {"password": "***"})
        assert "in pay" in shown["error"]["traceback"]
        assert [each["outcome"] for each in shown["history"]] == ["failed"]
        assert "hunter2" not in str([first, rest, shown])
        assert await api("DELETE", "/dead/ann") == {"deleted": 1}
        assert "no such dead letter" in (await api("DELETE", "/dead/ann", status=404))["detail"]
        assert (await api("GET", "/dead/ann", status=404))["type"] == "job-not-found"
        assert await api("POST", "/dead/delete", {"job_ids": ["bob", "ann"]}) == {"deleted": 1}
        assert await api("POST", "/dead/delete", {"everything": True}) == {"deleted": 1}

    async def test_they_are_replayed_one_or_many(self, api, dead):
        assert (await api("POST", "/dead/ann/replay", {"delay": 600}))["replayed"] == 1
        assert "no such dead letter" in (await api("POST", "/dead/ann/replay", status=404))["detail"]
        assert (await api("GET", "/jobs/ann"))["state"] == "scheduled"
        done = await api("POST", "/dead/replay", {"task": "api_*", "older_than": 0, "delay": 600})
        assert done == {"replayed": 2, "taken": [], "missing": []}
        done = await api("POST", "/dead/replay", {"job_ids": ["ann"]})
        assert done == {"replayed": 0, "taken": [], "missing": ["ann"]}

    @pytest.mark.parametrize(
        "body", [{}, {"job_ids": ["a"], "task": "b"}, {"older_than": 1, "until": "2031-01-01T00:00:00Z"}]
    )
    async def test_which_are_meant_has_to_be_clear(self, api, body):
        for path in ("/dead/replay", "/dead/delete"):
            await api("POST", path, body, status=422)


class TestSchedules:
    async def test_they_are_listed_paused_resumed_and_run(self, api, producer):
        await producer.schedules.add("hourly", Call("mail", "ann", token="hunter2"), every(3600))
        (listed,) = (await api("GET", "/schedules"))["schedules"]
        assert (listed["name"], listed["when"], listed["keyword_arguments"]) == ("hourly", "every 1h", {"token": "***"})
        assert listed == await api("GET", "/schedules/hourly")
        paused = await api("POST", "/schedules/hourly/pause")
        assert (paused["changed"], paused["schedule"]["next_run"]) == (True, None)
        assert (await api("POST", "/schedules/hourly/pause"))["changed"] is False
        assert (await api("POST", "/schedules/hourly/resume"))["changed"] is True
        run = await api("POST", "/schedules/hourly/trigger", status=201)
        assert (await api("GET", f"/jobs/{run['job_id']}"))["metadata"] == {"schedule": "hourly"}

    async def test_one_is_added_changed_and_removed(self, api, producer):
        asked = {"name": "tidy", "task": "tidy", "arguments": ["eu"], "every": 90, "overlap": False, "queue": "low"}
        added = await api("POST", "/schedules", asked, status=201)
        assert (added["when"], added["queue"], added["overlap"], added["declared"]) == (
            "every 90s",
            "low",
            False,
            False,
        )
        assert await api("POST", "/schedules", asked, status=201) == added
        other = {"name": "tidy", "task": "tidy", "cron": "30 6 * * mon-fri", "timezone": "Europe/Berlin"}
        assert (await api("POST", "/schedules", other, status=409))["type"] == "schedule-exists"
        changed = await api("POST", "/schedules", other | {"replace": True, "missed": "skip"}, status=201)
        assert (changed["when"], changed["timezone"], changed["missed"]) == (
            "30 6 * * mon-fri",
            "Europe/Berlin",
            "skip",
        )
        (known,) = await producer.schedules.list()
        assert (known.name, known.task) == ("tidy", "tidy")
        assert await api("DELETE", "/schedules/tidy") == {"name": "tidy"}
        assert (await api("DELETE", "/schedules/tidy", status=404))["type"] == "schedule-not-found"

    async def test_when_has_to_be_clear(self, api, producer):
        for wrong in (
            {},
            {"cron": "@daily", "every": 60},
            {"every": 60, "timezone": "Europe/Berlin"},
            {"cron": "61 * * * *"},
            {"cron": "@daily", "timezone": "Mars/Olympus"},
            {"every": 0.5},
            {"every": 60, "missed": "never"},
            {"every": 60, "queue": ""},
            {"every": 60, "name": "a\nb"},
            {"every": 60, "colour": "red"},
        ):
            await api("POST", "/schedules", {"name": "tidy", "task": "tidy"} | wrong, status=422)
        assert list(await producer.schedules.list()) == []

    async def test_its_arguments_are_checked_where_the_code_is(self, api):
        @task(name="api_tidy")
        async def tidy(ctx: Context, days: int) -> None: ...

        asked = {"name": "tidy", "task": "api_tidy", "arguments": ["often"], "every": 60}
        assert "days" in (await api("POST", "/schedules", asked, status=422))["detail"]
        await api("POST", "/schedules", asked | {"arguments": [3]}, status=201)

    async def test_none_is_told(self, api):
        assert (await api("GET", "/schedules/nowhere", status=404))["type"] == "schedule-not-found"
        for word in ("pause", "resume", "trigger"):
            assert (await api("POST", f"/schedules/nowhere/{word}", status=404))["type"] == "schedule-not-found"


class TestFleet:
    async def test_workers_say_how_they_are(self, api, run_worker, producer):
        job = await producer.enqueue(hold())
        await run_worker(hold)
        async with asyncio.timeout(30):
            while (fleet := await api("GET", "/fleet"))["running"] != 1 or not fleet["longest"]:
                await asyncio.sleep(0.05)
        assert fleet["longest"][0]["job_id"] == job.job_id
        (worker,) = (await api("GET", "/workers"))["workers"]
        assert (worker["queues"], worker["worker"]) == (["arq:queue"], fleet["workers"][0]["worker"])
        (limit,) = (await api("GET", "/limits", name="api_hold_limit"))["limits"]
        assert (limit["kind"], limit["limit"], limit["in_use"]) == ("concurrency", 1, 1)
        reset = await api("POST", "/limits/api_hold_limit/reset")
        assert [each["name"] for each in reset["limits"]] == ["api_hold_limit"]
        assert (await api("GET", "/limits", name="other"))["limits"] == []
        await job.abort()

    async def test_what_they_do_is_counted_while_somebody_asks(self, api, run_worker, producer):
        await run_worker(pay)
        async with asyncio.timeout(30):
            while not (await api("GET", "/fleet"))["observed"]:
                await asyncio.sleep(0.05)
            with pytest.raises(TaskFailed):
                await (await producer.enqueue(pay("ann", -1, password="hunter2"))).result()
            while not (found := await api("GET", "/tasks"))["tasks"]:
                await asyncio.sleep(0.05)
        (counted,) = found["tasks"]
        assert (counted["task"], counted["ended"], counted["outcomes"]) == ("api_pay", 1, {"failed": 1})
        fleet = await api("GET", "/fleet")
        assert fleet["failures"][0]["error"] == "ValueError: ann cannot pay with password=***"
        assert fleet["slowest"][0]["href"].startswith(f"{ROOT}/jobs/")


class TestEveryOperation:
    def test_is_described_by_the_types_it_uses(self):
        document = document_of(OPERATIONS, root_path="/barque")
        assert document["openapi"] == "3.1.0"
        assert document["servers"] == [{"url": "/barque"}]
        described = [one for path in document["paths"].values() for one in path.values()]
        assert len(described) == len(OPERATIONS)
        assert [one["operationId"] for one in described if not one["summary"] or len(one["summary"]) > 120] == []
        assert json.loads(json.dumps(document)) == document

    async def test_is_in_the_document_that_is_served(self, api):
        assert (await api("GET", "/openapi.json")).keys() >= {"openapi", "paths", "components"}

    @pytest.mark.parametrize("one", [one for one in OPERATIONS if one.method != "GET"], ids=lambda one: one.name)
    async def test_that_changes_something_is_refused_where_nothing_may_be(self, redis_url, redis, one):
        async with dashboard(redis_url, read_only=True) as client:
            path = ROOT + one.path.replace("{", "").replace("}", "")
            response = await client.request(one.method, path)
            assert (response.status_code, response.json()["type"]) == (403, "read-only")
        assert await redis.dbsize() == 0

    @pytest.mark.parametrize(
        ("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "", 404), ("PUT", "/jobs", 405)]
    )
    async def test_that_is_none_is_told(self, api, method, path, status):
        await api(method, path, status=status)

    async def test_takes_no_parameter_it_does_not_know(self, api):
        assert (await api("GET", "/queues", colour="red", status=422))["faults"] == [
            {"where": "query.colour", "detail": "unknown"}
        ]


class TestRightsOnTheServer:
    @pytest.fixture
    async def as_producer(self, redis_url, redis):
        """A dashboard whose user has the rights that docs/security.md gives a producer."""
        (role,) = [role for role in ROLES if role.user == "barque-producer"]
        await redis.execute_command("ACL", "SETUSER", role.user, *role.rules(["arq:queue"]))
        await redis.execute_command("ACL", "SETUSER", role.user, "on", ">dashboard")
        async with dashboard(redis_url.replace("redis://", f"redis://{role.user}:dashboard@")) as client:
            yield Api(client)
        await redis.acl_deluser(role.user)

    async def test_those_of_a_producer_are_enough(self, as_producer, producer):
        await producer.schedules.add("hourly", Call("mail"), every(3600))
        await as_producer.enqueue("mail", job_id="there")
        there = {"job_id": "there", "queue": "arq:queue", "schedule": "hourly", "task": "mail", "limit": "mail"}
        asked = {"replay_dead_letters": {"everything": True}, "delete_dead_letters": {"everything": True}}
        asked |= {"enqueue_job": {"task": "mail"}, "reschedule_job": {"delay": 60}}
        asked |= {"add_schedule": {"name": "daily", "task": "mail", "cron": "@daily"}}
        refused = []
        for one in sorted(OPERATIONS, key=lambda one: one.method):
            path = ROOT + path_to(one.path, **there)
            response = await as_producer.client.request(one.method, path, json=asked.get(one.name, {}))
            if response.status_code not in {200, 201, 202, 404, 409}:
                refused.append((one.name, response.text))
        assert refused == []


class TestWithoutAServer:
    async def test_it_says_so_and_recovers(self, server, redis_url):
        async with Proxy(server.port) as proxy, dashboard(proxy.url) as client:
            home, proxy.leads_to = proxy.leads_to, 1
            for path in (f"{ROOT}/queues", f"{ROOT}/jobs", "/"):
                response = await client.get(path)
                assert response.status_code == 503
                assert path == "/" or "Retry-After" in response.headers
            client.cookies.clear()  # of the page: whoever has it is taken for a browser
            problem = (await client.post(f"{ROOT}/jobs", json={"task": "mail"})).json()
            assert (problem["type"], "Redis at" in problem["detail"]) == ("redis-unavailable", True)
            assert (await client.get("/healthz")).status_code == 200
            proxy.leads_to = home
            async with asyncio.timeout(30):
                while (response := await client.get(f"{ROOT}/queues")).status_code == 503:
                    await asyncio.sleep(0.05)
            assert response.status_code == 200
            proxy.leads_to = 1
            proxy.cut_all()
            assert (await client.get(f"{ROOT}/queues")).status_code == 503
            proxy.leads_to = home
            async with asyncio.timeout(30):
                while (await client.get("/")).status_code != 200:
                    await asyncio.sleep(0.05)
