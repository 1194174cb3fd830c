"""common/redis/scores.py: a job that was put off is due later and later, and its score tells since when."""

import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.redis.scores import HEAD_START_MS, Score, ahead, put_off, read_due, read_score

NOW = 1_790_000_000_000
MONTH_MS = 30 * 24 * 3600 * 1000


@given(job_id=st.binary(max_size=40), waited_ms=st.integers(0, MONTH_MS), now=st.integers(NOW, NOW + 50 * MONTH_MS))
def test_the_score_of_a_job_that_is_put_off_tells_since_when(job_id, waited_ms, now):
    since = now - waited_ms
    score = put_off(job_id, since_ms=since, after_ms=now)
    assert float(score) > now
    assert read_score(score.encode(), job_id) == Score(since, "passed_on")
    assert read_score(b"%.17g" % float(score), job_id) == Score(since, "passed_on"), "as older servers write doubles"
    assert read_due(float(score)) == float(score)


@given(priority=st.integers(1, 9), due=st.integers(NOW, NOW + 50 * MONTH_MS))
def test_the_score_of_a_job_with_a_head_start_tells_its_priority_and_when_it_was_due(priority, due):
    score = ahead(due, priority)
    assert due - priority * HEAD_START_MS <= float(score) < due - priority * HEAD_START_MS + 1
    for written in (score.encode(), b"%.17g" % float(score)):
        assert read_score(written, b"a") == Score(due, "", priority)
    assert read_due(float(score)) == due


def test_a_job_without_a_priority_has_no_head_start():
    assert ahead(NOW, 0) == NOW
    assert read_due(NOW) == NOW
    assert read_due(NOW + 0.5) == NOW + 0.5


def test_no_score_is_before_the_start_of_time():
    assert read_score(ahead(5, 9).encode(), b"a") == Score(9 * HEAD_START_MS + 1, "", 9)


def test_the_scripts_give_the_same_head_start():
    prelude = (resources.files("common.redis") / "lua" / "prelude.lua").read_text("utf-8")
    given = re.search(r"^local LEAD, LEAD_EACH = (\d+) / 2048, 1 / 2048 - (\d+)$", prelude, re.MULTILINE)
    assert given
    for priority in range(1, 10):
        score = NOW + int(given[1]) / 2048 + priority * (1 / 2048 - int(given[2]))
        assert ahead(NOW, priority) == repr(score)


@pytest.mark.parametrize("job_id", [b"a", b"b", b"\xff", b""])
def test_each_time_is_later_and_the_pauses_grow_with_the_time_gone_by(job_id):
    due, pauses = NOW, []
    while due < NOW + MONTH_MS:
        score = float(put_off(job_id, since_ms=NOW, after_ms=due))
        assert score % 1 != 0.5, "that is the end of a lease"
        pauses.append(int(score) - due)
        due = int(score)
    assert 250 <= pauses[0] <= 510
    after_an_hour = next(pause for number, pause in enumerate(pauses) if sum(pauses[:number]) > 3600_000)
    assert 15_000 < after_an_hour < 45_000
    assert all(pause >= 250 for pause in pauses)


def test_many_jobs_of_one_moment_do_not_come_back_at_once():
    dues = {int(float(put_off(b"job-%d" % number, since_ms=NOW, after_ms=NOW))) for number in range(1000)}
    assert len(dues) > 150


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (b"1790000000000.5", Score(NOW, "lost")),
        (b"1790000000000", Score(NOW)),
        (b"1.79e12", Score(NOW)),
        (b"1790000000000.7", Score(NOW)),
        (b"5.0000000000000001e-324", Score(0)),
        (b"-1.5", Score(0)),
        (b"-inf", Score(0)),
    ],
)
def test_other_scores_are_what_they_are(score, told):
    assert read_score(score, b"a") == told


def test_a_code_that_no_clock_of_ours_wrote_gives_no_time_before_there_were_any():
    assert read_score(b"5.25", b"a") == Score(0, "passed_on")
