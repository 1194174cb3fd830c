"""workers/unknown_tasks.py: how long a job is put off, at which pace, and how little is said of it."""

import asyncio

import pytest
from structlog.testing import capture_logs

from common.redis.scores import read_score
from common.redis.store import Claimed
from workers.attempt import Attempt
from workers.clock import ServerClock
from workers.unknown_tasks import UnknownTasks

NOW = 1_790_000_000_000
KNOWN = {"fetch_url", "resize"}


class StoppedClock(ServerClock):
    now = NOW

    def now_ms(self) -> int:
        return self.now


@pytest.fixture
def clock():
    return StoppedClock()


@pytest.fixture
def lines():
    with capture_logs() as captured:
        yield captured


@pytest.fixture
async def unknown(clock):
    return UnknownTasks(KNOWN, wait=60, clock=clock)


def an_attempt(job_id="j", due_ms=NOW, past="") -> Attempt:
    return Attempt(Claimed(job_id, b"", 1, due_ms, False, 0, "w:1:1", past), "q")


def since(score: str, job_id="j") -> int:
    return read_score(score.encode(), job_id.encode())[0]


async def test_the_time_a_job_has_begins_when_a_worker_first_meets_it_not_when_it_was_due(unknown):
    long_ago = an_attempt(due_ms=NOW - 24 * 3600 * 1000)  # the whole fleet was down for a day
    assert since(unknown.due_again(long_ago, "new")) == NOW


@pytest.mark.parametrize("past", ["", "lost"])
async def test_a_retry_and_a_lost_attempt_begin_it_anew(unknown, past):
    assert since(unknown.due_again(an_attempt(due_ms=NOW - 90_000, past=past), "new")) == NOW


async def test_put_off_again_it_goes_on(unknown, clock):
    clock.now = NOW + 59_999
    assert since(unknown.due_again(an_attempt(due_ms=NOW, past="passed_on"), "new")) == NOW
    clock.now = NOW + 60_000
    assert unknown.due_again(an_attempt(due_ms=NOW, past="passed_on"), "new") is None


async def test_without_a_wait_none_is_put_off(clock):
    assert UnknownTasks(KNOWN, wait=0, clock=clock).due_again(an_attempt(), "new") is None


async def test_however_many_there_are_a_worker_has_few_of_them_come_back_a_second(unknown):
    dues = [float(unknown.due_again(an_attempt(f"j{n}"), "new")) for n in range(20_000)]
    for second in range(2, 25):
        start = NOW + 1000 * second
        assert sum(start <= due < start + 1000 for due in dues) < 2000
    assert max(dues) < NOW + 25_000


async def test_one_line_a_minute_and_name_tells_of_all_jobs_of_the_claim(unknown, clock, lines):
    for number in range(50):
        unknown.due_again(an_attempt(f"j{number}"), "fetch_ulr")
    unknown.due_again(an_attempt("k"), "other")
    await asyncio.sleep(0)
    assert lines == [
        {
            "event": "task_unknown", "log_level": "warning", "task": "fetch_ulr", "jobs": 50,
            "did_you_mean": "fetch_url", "fail_after_s": 60,
        },
        {
            "event": "task_unknown", "log_level": "warning", "task": "other", "jobs": 1,
            "did_you_mean": None, "fail_after_s": 60,
        },
    ]  # fmt: skip
    clock.now += 59_999
    for _ in range(3):
        unknown.due_again(an_attempt("j1"), "fetch_ulr")
    await asyncio.sleep(0)
    assert len(lines) == 2
    clock.now += 1
    unknown.due_again(an_attempt("j2"), "fetch_ulr")
    await asyncio.sleep(0)
    assert (lines[2]["task"], lines[2]["jobs"]) == ("fetch_ulr", 2)
    assert len(lines) == 3


async def test_whoever_makes_up_names_gets_few_lines_and_fills_no_memory(unknown, clock, lines):
    for number in range(1000):
        unknown.due_again(an_attempt(f"j{number}"), f"made-up-{number}" + "x" * 10_000)
    await asyncio.sleep(0)
    assert len(lines) == 101
    assert (lines[-1]["task"], lines[-1]["jobs"]) == ("(others)", 900)
    assert all(len(line["task"]) <= 200 for line in lines)
    clock.now += 60_000
    unknown.due_again(an_attempt(), "one more")
    await asyncio.sleep(0)
    assert lines[-1]["task"] == "one more", "a minute later others have their turn"


@pytest.mark.parametrize(
    ("wait", "name", "says"),
    [
        (0, "fetch_ulr", "function 'fetch_ulr' not found among the 2 of this worker; did you mean 'fetch_url'?"),
        (60, "fetch_ulr", "no other took the job within 60 s (BARQUE_UNKNOWN_TASK_WAIT); did you mean 'fetch_url'?"),
        (0, "zzz", "start a worker whose BARQUE_TASKS names the module that has it"),
        (0, "x" * 1_000_000, "start a worker whose BARQUE_TASKS"),
    ],
)
async def test_the_error_says_what_to_do(clock, wait, name, says):
    assert says in str(UnknownTasks(KNOWN, wait=wait, clock=clock).not_found(name))
