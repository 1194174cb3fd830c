"""common/redis/scores.py: a job that was put off is due later and later, and its score tells since when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.redis.scores import put_off, read_score

NOW = 1_790_000_000_000
MONTH_MS = 30 * 24 * 3600 * 1000


@given(job_id=st.binary(max_size=40), waited_ms=st.integers(0, MONTH_MS), now=st.integers(NOW, NOW + 50 * MONTH_MS))
def test_the_score_of_a_job_that_is_put_off_tells_since_when(job_id, waited_ms, now):
    since = now - waited_ms
    score = put_off(job_id, since_ms=since, after_ms=now)
    assert float(score) > now
    assert read_score(score.encode(), job_id) == (since, "passed_on")
    assert read_score(b"%.17g" % float(score), job_id) == (since, "passed_on"), "as older servers write doubles"


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
        (b"1790000000000.5", (NOW, "lost")),
        (b"1790000000000", (NOW, "")),
        (b"1.79e12", (NOW, "")),
        (b"1790000000000.7", (NOW, "")),
        (b"5.0000000000000001e-324", (0, "")),
        (b"-1.5", (0, "")),
        (b"-inf", (0, "")),
    ],
)
def test_other_scores_are_what_they_are(score, told):
    assert read_score(score, b"a") == told


def test_a_code_that_no_clock_of_ours_wrote_gives_no_time_before_there_were_any():
    assert read_score(b"5.25", b"a") == (0, "passed_on")
