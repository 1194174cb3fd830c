from datetime import UTC, datetime, timedelta

from common.attempts import AttemptInfo
from common.jobs import JobInfo, JobState
from dashboard.pages.timeline import WIDTH, draw_timeline

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def job(*attempts: AttemptInfo, state: JobState = JobState.SUCCEEDED, **known) -> JobInfo:
    return JobInfo("1", state, enqueued_at=START, attempts=attempts, **known)


def test_attempts_are_drawn_to_scale_from_the_enqueue_on():
    first = AttemptInfo(1, "retried", after(10), after(20))
    last = AttemptInfo(2, "succeeded", after(60), after(100))
    drawn = draw_timeline(job(first, last), after(5000))
    assert drawn.bars == [(100, 100, "retried"), (600, 400, "succeeded")]
    assert drawn.said == "Within 1m 40s: attempt 1 retried, attempt 2 succeeded."


def test_one_that_runs_goes_on_until_now():
    drawn = draw_timeline(job(AttemptInfo(1, "running", after(50)), state=JobState.RUNNING), after(100))
    assert drawn.bars == [(500, 500, "running")]


def test_one_that_waits_for_its_next_attempt_goes_on_too():
    drawn = draw_timeline(job(AttemptInfo(1, "retried", after(0), after(10)), state=JobState.SCHEDULED), after(100))
    assert drawn.bars == [(0, 100, "retried")]
    assert drawn.end == after(100)


def test_the_shortest_is_seen_and_stays_inside():
    drawn = draw_timeline(job(AttemptInfo(1, "failed", after(3600), after(3600.001))), after(4000))
    (bar,) = drawn.bars
    assert bar.width >= 1
    assert bar.x + bar.width <= WIDTH


def test_of_a_lost_one_the_end_is_known():
    drawn = draw_timeline(job(AttemptInfo(1, "lost", None, after(10)), state=JobState.QUEUED), after(100))
    assert drawn.bars[0].x == 100
    assert drawn.bars[0].tone == "lost"


def test_nothing_is_drawn_where_nothing_is_known():
    assert draw_timeline(job(), after(1)) is None
    assert draw_timeline(job(AttemptInfo(1, "unreadable")), after(1)) is None
    assert draw_timeline(job(AttemptInfo(1, "running")), after(1)) is None
