"""common/redis/layout.py: the short ways for what is alone say the same as the long ones."""

import pytest

from common.redis.layout import complete_arguments, parse_claim
from common.redis.records import Claimed, Finish, HeldLease, Letter, PutBack


def claim_of(*jobs, aborted=(), later=()):
    """Return what claim.lua replies of jobs that are all of the queue 2."""
    return [1000, 2000, 7, list(aborted), [2, len(jobs)], list(later), *(part for job in jobs for part in job)]


@pytest.mark.parametrize(
    ("score", "due_ms", "past", "priority"),
    [
        (b"900", 900, "", 0),
        (b"-5", 0, "", 0),
        (b"900.5", 900, "lost", 0),
        (b"-inf", 0, "", 0),
    ],
)
def test_one_job_is_read_as_it_is_among_others(score, due_ms, past, priority):
    job = (b"a\xff", b"payload", score)
    alone, among = (parse_claim(reply, "w", 3) for reply in (claim_of(job), claim_of(job, (b"b", None, b"1"))))
    assert alone.jobs == among.jobs[:1]
    assert (alone.now_ms, alone.next_due_ms, alone.waiting) == (1000, 2000, 7)
    (found,) = alone.jobs
    assert (found.job_id, found.payload, found.queue, found.token) == ("a\udcff", b"payload", 2, "w:1:3")
    assert (found.due_ms, found.past, found.priority) == (due_ms, past, priority)


def test_one_job_with_a_wish_or_a_later_attempt_is_read_with_it():
    wished = parse_claim(claim_of((b"a", b"p", b"900"), aborted=(0, b"12.25")), "w", 3)
    assert wished.jobs == [Claimed("a", b"p", 1, 900, 12.25, 2, "w:1:3")]
    later = parse_claim(claim_of((b"a", b"p", b"900"), later=(0, 4)), "w", 3)
    assert later.jobs == [Claimed("a", b"p", 4, 900, 0.0, 2, "w:4:3")]


@pytest.mark.parametrize("again", [False, True])
def test_one_outcome_is_laid_out_as_a_group_of_one(again):
    lease = HeldLease(1, "a\udcff", "w:1:3", 1)
    plain = Finish(lease, b"result", 5000, 7)
    assert complete_arguments([plain], again=again) == (
        [int(again), "finish", 1, 1, 5000, 7, 1, b"a\xff", "w:1:3", b"result"],
        (0,),
    )
    two, order = complete_arguments([plain, plain], again=again)
    assert two[1:6] == ["finish", 1, 1, 5000, 7]
    assert two[7:10] == [b"a\xff", "w:1:3", b"result"]
    assert list(order) == [0, 1]


def test_one_outcome_that_leaves_more_goes_the_long_way():
    lease = HeldLease(0, "a", "w:2:3", 2)
    buried, _ = complete_arguments([Finish(lease, b"r", 0, 0, Letter(b"p", b"about", b"", 10, 5))], again=False)
    assert buried[:2] == [0, "bury"]
    put_back, _ = complete_arguments([PutBack(lease, "retry", 50)], again=False)
    assert put_back == [0, "retry", 0, 2, 0, 0, 1, b"a", "w:2:3", 50, b""]
