"""The `barque` command as a program: started as a process, against a real server, with a real worker."""

import asyncio
import json
import os
import pickle
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from arq.connections import RedisSettings

from common import NEVER, Call, Context, task
from common.jobs import JobState
from producer import Producer
from tests.support.commands import Ended
from workers import Worker

ROOT = Path(__file__).parents[2]

TASKS = """
from common import Context, task

@task(queue="cli:own")
async def cli_shout(ctx: Context, text: str, *, times: int = 1) -> str:
    return text.upper() * times
"""


@task(name="cli_echo")
async def echo(ctx: Context, *args: object, **kwargs: object) -> dict[str, object]:
    return {"args": list(args), "kwargs": kwargs, "metadata": dict(ctx.metadata)}


@task(name="cli_bytes")
async def give_bytes(ctx: Context) -> dict[str, bytes]:
    return {"body": b"\x00\xff"}


@task(name="cli_fail", retry=NEVER)
async def fail(ctx: Context) -> None:
    raise ValueError("\x1b[31mno [bold]way[/bold]")


@pytest.fixture
def barque(redis_url, tmp_path):
    """Start the command in an empty folder; the processes a test leaves behind are killed."""
    started = []

    async def start(*arguments, **environment):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cli",
            *arguments,
            cwd=tmp_path,
            env=given(redis_url) | environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()


@pytest.fixture
def run(commands, redis_url, tmp_path):
    """Run the command to its end in an empty folder, without a start of Python for each."""

    async def run(*arguments, **environment) -> Ended:
        return await commands.run(*arguments, folder=tmp_path, environment=given(redis_url) | environment)

    return run


def given(redis_url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
    return kept | {"PYTHONPATH": str(ROOT), "BARQUE_REDIS_URL": redis_url, "COLUMNS": "80"}


async def end(process) -> Ended:
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return Ended(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def worker(redis_url, *, queues=("arq:queue",), functions=(echo, give_bytes, fail)) -> AsyncIterator[Worker]:
    """Run a worker in this process while the block runs."""
    running = Worker(
        functions, queues=queues, redis_settings=RedisSettings.from_dsn(redis_url), handle_signals=False, poll_delay=0.1
    )
    running.main_task = asyncio.create_task(running.async_run())
    try:
        yield running
    finally:
        running.main_task.cancel()
        await asyncio.wait({running.main_task})
        await running.close()


async def a_closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.leaves_keys("arq:result:*")
class TestEnqueueAndWait:
    async def test_the_result_is_on_stdout_and_all_else_on_stderr(self, run, redis_url):
        async with worker(redis_url):
            ended = await run(
                *("enqueue", "cli_echo", "5", "[1, null]", "text", "007", "--no-check", "--wait"),
                *("-k", "a=true", "-k", "b=x=y", "-m", "who=ada", "--timeout", "30"),
            )

        assert ended.code == 0, ended.err
        assert json.loads(ended.out) == {
            "args": [5, [1, None], "text", "007"],
            "kwargs": {"a": True, "b": "x=y"},
            "metadata": {"who": "ada"},
        }
        assert "waiting for its result" in ended.err

    async def test_arguments_with_dashes_follow_two_dashes(self, run, redis_url):
        async with worker(redis_url):
            ended = await run("enqueue", "cli_echo", "--no-check", "--wait", "--json", "--", "-2", "--debug")

        assert ended.code == 0, ended.err
        assert ended.document["result"]["args"] == [-2, "--debug"]
        assert ended.document["state"] == "succeeded"

    async def test_what_the_task_says_may_be_said_otherwise(self, run, redis_url, redis):
        ended = await run(
            "enqueue", "cli_echo", "--no-check", "--job-id", "own", "--soft-timeout", "5s", "--fair-key", "acme",
            "--limit-key", "mirror", "--limit-cost", "2.5",
        )  # fmt: skip
        extras = msgspec.msgpack.decode(await redis.get("arq:job:own"))["b"]
        async with worker(redis_url):
            waited = await run("result", "own", "--wait", "--timeout", "30")

        assert ended.code == 0, ended.err
        assert (extras["soft"], extras["lk"], extras["lc"]) == (5.0, "mirror", 2.5)
        assert extras["lane"]
        assert waited.code == 0, waited.err

    async def test_bytes_are_base64_and_said_to_be(self, run, redis_url):
        async with worker(redis_url):
            text = await run("enqueue", "cli_bytes", "--no-check", "--wait", "--job-id", "b")
            document = await run("result", "b", "--json")

        assert json.loads(text.out) == {"body": "AP8="}
        assert "base64, at $.body" in text.err
        assert document.document == {
            "job_id": "b",
            "state": "succeeded",
            "result": {"body": "AP8="},
            "base64_at": ["$.body"],
        }

    async def test_a_failure_is_exit_code_1_with_the_workers_traceback_made_harmless(self, run, redis_url):
        async with worker(redis_url):
            ended = await run("enqueue", "cli_fail", "--no-check", "--wait", "--job-id", "f")
            asked = await run("result", "f", "--json")
            status = await run("status", "f")

        assert (ended.code, ended.out) == (1, "")
        assert "failed after 1 attempt: ValueError: \\x1b[31mno [bold]way[/bold]" in ended.err
        assert "In the worker:\nTraceback" in ended.err
        assert "\x1b" not in ended.err
        assert asked.code == 1
        assert asked.document["error"]["type"] == "builtins.ValueError"
        assert asked.document["error"]["message"] == "\x1b[31mno [bold]way[/bold]"
        assert status.code == 0
        assert "ValueError: \\x1b[31mno [bold]way[/bold]" in status.out

    async def test_a_checked_task_goes_to_its_own_queue(self, run, redis_url, tmp_path):
        (tmp_path / "cli_tasks.py").write_text(TASKS)
        enqueued = await run("enqueue", "cli_shout", "a", "-k", "times=2", "--tasks", "cli_tasks", "--json")
        worked = await run("worker", "--burst", "--queues", "cli:own", "--json", BARQUE_TASKS="cli_tasks")
        result = await run("result", enqueued.document["job_id"])

        assert enqueued.code == 0, enqueued.err
        assert enqueued.document["queue"] == "cli:own"
        assert worked.code == 0, worked.err
        assert worked.document == {"succeeded": 1, "retried": 0, "failed": 0}
        assert (result.code, result.out) == (0, '"AA"\n')

    async def test_without_wait_stdout_is_the_id_alone(self, run, redis_url):
        ended = await run("enqueue", "cli_echo", "--no-check", "--job-id", "mine")
        again = await run("enqueue", "cli_echo", "--no-check", "--job-id", "mine", "--json")
        async with worker(redis_url):
            waited = await run("result", "mine", "--wait", "--timeout", "30")

        assert (ended.code, ended.out) == (0, "mine\n")
        assert again.document == {"job_id": "mine", "task": "cli_echo", "queue": "arq:queue", "is_new": False}
        assert "Nothing was added" in again.err
        assert waited.code == 0, waited.err


class TestEnqueueRefusals:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["fetch_ulr", "https://example.com"], "did you mean fetch_url"),
            (["checksum_file"], "argument path is missing"),
            (["checksum_file", "5"], "--raw"),
            (["checksum_file", "-1"], "behind a `--`"),
            (["cli_echo", "--no-check", "--job-timeout", "5", "--soft-timeout", "6"], "soft_timeout=6 s is not before"),
            (["cli_echo", "--no-check", "--limit-cost", "-3"], "limit_cost"),
            (["cli_echo", "--no-check", str(10**30)], "past 64 bits"),
            (["cli_echo", "--no-check", "--delay", "5", "--at", "2030-01-01T00:00Z"], "not both"),
            (["cli_echo", "--no-check", "--delay", "5m", "--expires", "1m"], "is over before the job is due"),
            (["cli_echo", "--no-check", "--job-id", "two words"], "job_id"),
            (["cli_echo", "--tasks", "no_such_module"], "no module named 'no_such_module'"),
        ],
    )
    async def test_nothing_is_enqueued(self, run, arguments, says):
        ended = await run("enqueue", *arguments)

        assert (ended.code, ended.out) == (2, "")
        assert says in ended.err
        assert "Traceback" not in ended.err


@pytest.mark.leaves_keys("arq:job:*", "arq:queue", "arq:other", "barque:*")
class TestJobsThatHaveNotEnded:
    async def test_a_result_not_there_yet_is_exit_code_4(self, run):
        await run("enqueue", "cli_echo", "--no-check", "--job-id", "later", "--delay", "1h")

        asked = await run("result", "later", "--json")
        waited = await run("result", "later", "--wait", "--timeout", "50ms")

        assert asked.code == 4
        assert asked.document == {"job_id": "later", "state": "scheduled"}
        assert (waited.code, waited.out) == (4, "")
        assert "it goes on" in waited.err

    async def test_status_of_jobs_keeps_arguments_to_itself_unless_asked(self, run, redis_url):
        async with Producer(redis_url) as producer:
            await producer.enqueue(Call("cli_echo", "s3cret"), job_id="one", metadata={"who": "\x1b[2J"})
            await producer.enqueue(Call("cli_echo", "s3cret"), job_id="two", queue="arq:other")

        plain = await run("status", "one")
        shown = await run("status", "one", "--arguments")
        as_json = await run("status", "one", "two", "--queues", "arq:queue,arq:other", "--json")
        elsewhere = await run("status", "two")

        assert plain.code == 0
        assert "queued" in plain.out
        assert "\\u001b[2J" in plain.out
        assert "s3cret" not in plain.out
        assert 'arguments  ["s3cret"]' in shown.out
        assert [(job["job_id"], job["state"], job["queue"]) for job in as_json.document] == [
            ("one", "queued", "arq:queue"),
            ("two", "queued", "arq:other"),
        ]
        assert "s3cret" not in as_json.out
        assert elsewhere.code == 1
        assert "--queues names others" in elsewhere.out

    async def test_an_interrupt_while_waiting_is_130_and_the_job_stays(self, barque, redis_url):
        process = await barque("enqueue", "cli_echo", "--no-check", "--job-id", "kept", "--wait")
        said = await asyncio.wait_for(process.stderr.readline(), 30)
        process.send_signal(signal.SIGINT)
        ended = await end(process)

        assert b"waiting for its result" in said
        assert (ended.code, ended.out, ended.err) == (130, "", "")
        async with Producer(redis_url) as producer:
            assert await producer.job("kept").status() is JobState.QUEUED


@pytest.mark.leaves_keys("arq:result:p")
class TestAResultThatCannotBeRead:
    async def test_it_is_exit_code_1_with_the_reason_and_never_a_failure(self, run, redis):
        await redis.set("arq:result:p", pickle.dumps({"s": True, "r": 5}))

        result = await run("result", "p")
        as_json = await run("result", "p", "--wait", "--json")
        status = await run("status", "p")
        status_json = await run("status", "p", "--json")

        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("Job p has ended, but its result cannot be read here: ")
        assert "BARQUE_ACCEPT_PICKLE" in result.err
        assert (as_json.code, as_json.document["state"]) == (1, "ended")
        assert "BARQUE_ACCEPT_PICKLE" in as_json.document["error"]["message"]
        assert (status.code, status_json.code) == (1, 1)
        assert "BARQUE_ACCEPT_PICKLE" in " ".join(status.out.split())
        assert status_json.document[0]["state"] == "ended"
        assert "fail" not in result.err + status.out


class TestJobsThatAreNotThere:
    async def test_exit_code_1(self, run):
        result = await run("result", "nope")
        waited = await run("result", "nope", "--wait")
        status = await run("status", "nope", "--json")

        assert (result.code, waited.code, status.code) == (1, 1, 1)
        assert result.err.startswith("barque: job nope is not there")
        assert waited.err.startswith("barque: job nope is not there")
        assert status.document[0]["state"] == "unknown"


class TestOverview:
    async def test_it_shows_queues_of_live_workers_and_their_load(self, run, redis, redis_url):
        async with worker(redis_url, queues=("arq:queue", "cli:second")) as running:
            async with asyncio.timeout(30):
                while not await redis.exists(f"barque:worker:{running.worker_id}"):
                    await asyncio.sleep(0.01)
            as_json = await run("status", "--json")
            text = await run("status")

        assert [queue["queue"] for queue in as_json.document["queues"]] == ["arq:queue", "cli:second"]
        assert [queue["workers"] for queue in as_json.document["queues"]] == [1, 1]
        assert [found["worker"] for found in as_json.document["workers"]] == [running.worker_id]
        assert as_json.document["server"]["kind"] in {"Valkey", "Redis"}
        assert "cli:second" in text.out
        assert "0/10" in text.out

    async def test_it_says_that_no_worker_lives(self, run):
        ended = await run("status")

        assert ended.code == 0
        assert "No worker is alive" in ended.out
        assert "\x1b" not in ended.out


class TestWorkerCommand:
    async def test_sigterm_stops_it_with_exit_code_0(self, barque):
        process = await barque("worker", "--log-format", "json", "--concurrency", "3")
        started = json.loads(await asyncio.wait_for(process.stderr.readline(), 60))
        process.send_signal(signal.SIGTERM)
        ended = await end(process)

        assert started["event"] == "worker_started"
        assert started["concurrency"] == 3
        assert (ended.code, ended.out) == (0, "")
        assert json.loads(ended.err.splitlines()[-1])["event"] == "worker_stopped"

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--concurrency", "0"], "BARQUE_CONCURRENCY"),
            (["--tasks", "no_such_module"], "no_such_module"),
            (["--log-format", "xml"], "BARQUE_LOG_FORMAT"),
            (["--tasks", "plain_tasks"], "BARQUE_TASKS: plain_tasks has no @task; decorate a function with"),
            (["--tasks", "plain_tasks,empty"], "BARQUE_TASKS: plain_tasks, empty have no @task"),
            (["--tasks", ""], "BARQUE_TASKS: name at least one module"),
            (["--tasks", "plain_tasks.py"], "give a module name, without .py"),
        ],
    )
    async def test_a_wrong_setting_is_exit_code_2(self, run, tmp_path, arguments, says):
        (tmp_path / "plain_tasks.py").write_text("async def plain(ctx):\n    pass\n")
        (tmp_path / "empty.py").write_text("")
        ended = await run("worker", *arguments)

        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith("barque: ")
        assert says in ended.err
        assert ended.err.count("\n") == 1

    async def test_it_warns_of_each_name_that_is_no_setting(self, run, tmp_path):
        (tmp_path / ".env").write_text("BARQUE_LEESE=20\n")
        ended = await run("worker", "--burst", BARQUE_CONCURENCY="5", BARQUE_XYZZY="1")

        lines = [json.loads(line) for line in ended.err.splitlines()]
        warnings = [line for line in lines if line["event"] == "unknown_setting"]
        assert ended.code == 0
        assert [(line["name"], line["did_you_mean"]) for line in warnings] == [
            ("BARQUE_CONCURENCY", "BARQUE_CONCURRENCY"),
            ("BARQUE_LEESE", "BARQUE_LEASE"),
            ("BARQUE_XYZZY", None),
        ]
        assert {line["level"] for line in warnings} == {"warning"}
        assert lines.index(warnings[-1]) < [line["event"] for line in lines].index("worker_started")

    async def test_times_take_units(self, run):
        ended = await run("worker", "--burst", "--shutdown-grace", "1m", BARQUE_JOB_TIMEOUT="90s")

        assert ended.code == 0, ended.err


class TestWithoutAServer:
    @pytest.mark.parametrize(
        "arguments",
        [["status"], ["status", "x"], ["result", "x"], ["enqueue", "x", "--no-check"], ["worker", "--burst"]],
        ids=" ".join,
    )
    async def test_exit_code_3_and_one_line(self, run, arguments):
        url = f"redis://:s3cret@127.0.0.1:{await a_closed_port()}/0"
        ended = await run(*arguments, BARQUE_REDIS_URL=url, BARQUE_START_WAIT="0")

        assert (ended.code, ended.out) == (3, "")
        error = [line for line in ended.err.splitlines() if not line.startswith("{")]
        assert len(error) == 1
        assert "connection refused" in error[0]
        assert "s3cret" not in ended.err


class TestDoctor:
    async def test_a_server_that_works_passes(self, run):
        as_json = await run("doctor", "--json")
        text = await run("doctor")

        assert (as_json.code, text.code) == (0, 0)
        assert as_json.document["healthy"] is True
        found = {finding["name"]: finding for finding in as_json.document["findings"]}
        assert found["server"]["status"] == "ok"
        for name, finding in found.items():
            assert name in text.out
            assert bool(finding["advice"]) == (finding["status"] != "ok")
        assert max(map(len, text.out.splitlines())) <= 80
        assert re.search(r"clock +\d+\.\d{3} s (behind|ahead of) this machine's clock \(± \S+ s\)\n", text.out)

    async def test_one_that_refuses_fails(self, run):
        url = f"redis://127.0.0.1:{await a_closed_port()}/0"
        as_json = await run("doctor", "--json", "--redis-url", url)
        text = await run("doctor", "--redis-url", url)

        assert (as_json.code, text.code) == (1, 1)
        assert as_json.document["healthy"] is False
        assert [finding["status"] for finding in as_json.document["findings"]] == ["fail"]
        assert text.out.startswith("fail  server")

    async def test_a_misspelt_variable_is_a_warning(self, run):
        ended = await run("doctor", "--json", BARQUE_CONCURENCY="8")

        assert ended.code == 0
        assert ended.document["findings"][0]["advice"] == "did you mean BARQUE_CONCURRENCY?"


class TestRedisCommand:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_it_serves_until_a_signal_and_keeps_what_it_was_told(self, barque, run, tmp_path, number):
        for round_ in range(2):
            process = await barque("redis", "--port", "0", "--json")
            said = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
            if round_ == 0:
                enqueued = await run("enqueue", "x", "--no-check", "--job-id", "j", "--redis-url", said["url"])
                assert enqueued.code == 0, enqueued.err
            status = await run("status", "j", "--json", "--redis-url", said["url"])
            process.send_signal(number)
            ended = await end(process)

            assert status.document[0]["state"] == "queued"
            assert (ended.code, ended.out) == (0, "")
            assert said["folder"] == str(tmp_path / "barque-data" / "redis")
            with pytest.raises(ProcessLookupError):
                os.kill(said["pid"], 0)

    async def test_a_password_is_needed_and_never_printed(self, barque, run):
        process = await barque("redis", "--port", "0", "--folder", "data", BARQUE_REDIS_PASSWORD="s3cret")
        said = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        url = said.strip().removeprefix("BARQUE_REDIS_URL=")
        refused = await run("status", BARQUE_REDIS_URL=url)
        taken = await run("status", BARQUE_REDIS_URL=url, BARQUE_REDIS_PASSWORD="s3cret")
        process.send_signal(signal.SIGTERM)
        ended = await end(process)

        assert (refused.code, taken.code) == (3, 0)
        assert "BARQUE_REDIS_PASSWORD" in ended.err
        assert "s3cret" not in said + ended.out + ended.err

    async def test_an_end_of_the_server_is_exit_code_3(self, barque):
        process = await barque("redis", "--port", "0", "--json")
        said = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        os.kill(said["pid"], signal.SIGKILL)
        ended = await end(process)

        assert ended.code == 3
        assert "server.log" in ended.err

    async def test_the_network_wants_a_password(self, run):
        ended = await run("redis", "--host", "0.0.0.0", "--port", "0")

        assert (ended.code, ended.out) == (2, "")
        assert "password" in ended.err


async def test_most_of_these_commands_are_forks_which_say_what_a_process_says(barque, run):
    for arguments in (["config", "--json"], ["enqueue", "é", "--no-check", "--at", "never"], ["result", "nope"]):
        assert await run(*arguments) == await end(await barque(*arguments))


class TestConfigOfAFolder:
    async def test_the_env_file_is_named_as_the_origin(self, run, tmp_path):
        (tmp_path / ".env").write_text("BARQUE_CONCURRENCY=7\nBARQUE_WEBHOOK_SECRET=s3cret\n")

        ended = await run("config", "--json", "--tasks", "a,b")

        settings = ended.document["settings"]
        assert settings["concurrency"] | {"description": ""} == {
            "variable": "BARQUE_CONCURRENCY",
            "key": "concurrency",
            "value": 7,
            "from": ".env",
            "file": str(tmp_path / ".env"),
            "line": None,
            "default": 100,
            "description": "",
        }
        assert settings["tasks"]["from"] == "option"
        assert settings["redis_url"]["from"] == "environment"
        assert "s3cret" not in ended.out + ended.err


@pytest.mark.leaves_keys("arq:job:*", "arq:queue", "barque:*")
async def test_output_is_json_where_stdout_is_no_utf8(run, redis_url):
    async with Producer(redis_url) as producer:
        await producer.enqueue(Call("cli_echo", "é"), job_id="é")

    as_json = await run("status", "é", "--arguments", "--json", PYTHONIOENCODING="ascii")
    text = await run("status", "é", PYTHONIOENCODING="ascii")

    assert as_json.document[0]["arguments"] == ["é"]
    assert as_json.out.isascii()
    assert text.code == 0
    assert "Job \\xe9" in text.out


async def test_a_user_who_may_not_read_is_told_what_to_grant(run, redis, redis_url):
    await redis.execute_command("ACL", "SETUSER", "cli-reader", "on", ">pw", "~*", "+ping", "+hello", "+client")
    try:
        ended = await run("status", BARQUE_REDIS_USERNAME="cli-reader", BARQUE_REDIS_PASSWORD="pw")
    finally:
        await redis.execute_command("ACL", "DELUSER", "cli-reader")

    assert (ended.code, ended.out) == (3, "")
    assert "grant it with ACL SETUSER" in ended.err
    assert ended.err.count("\n") == 1
