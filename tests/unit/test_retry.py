"""common/retry.py: when a failed attempt is tried again, and after how long."""

import math
import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigurationError, Retry
from common.retry import NEVER, RetryPolicy, exponential, fixed, linear

YEAR = 365 * 24 * 3600.0

delays = st.floats(0, 1e6)
attempts = st.integers(1, 10_000)
backoffs = st.one_of(
    st.builds(
        lambda first, factor, most: (exponential(first, factor=factor, maximum=most), most),
        delays,
        st.floats(1, 1000),
        delays,
    ),
    st.builds(lambda step, most: (linear(step, maximum=most), most), delays, delays),
    st.builds(lambda delay: (fixed(delay), delay), delays),
)
answers_of_users = st.one_of(st.floats(), st.integers(), st.sampled_from([10**400, -(10**400), math.nan, math.inf]))


@given(backoffs, attempts, st.sampled_from(["full", "none"]))
def test_a_delay_is_never_negative_and_never_past_the_cap(backoff, attempt, jitter):
    wait, most = backoff
    assert 0 <= RetryPolicy(backoff=wait, jitter=jitter).delay(attempt) <= most


@given(backoffs, attempts)
def test_without_jitter_no_delay_is_shorter_than_the_one_before(backoff, attempt):
    policy = RetryPolicy(backoff=backoff[0], jitter="none")
    assert policy.delay(attempt) <= policy.delay(attempt + 1)


@given(backoffs, attempts)
def test_jitter_only_shortens(backoff, attempt):
    longest = RetryPolicy(backoff=backoff[0], jitter="none").delay(attempt)
    assert RetryPolicy(backoff=backoff[0], jitter="full").delay(attempt) <= longest


@given(answers_of_users, attempts, st.sampled_from(["full", "none"]))
def test_whatever_a_users_backoff_returns_the_delay_is_a_number_of_seconds_up_to_a_year(answer, attempt, jitter):
    delay = RetryPolicy(backoff=lambda _: answer, jitter=jitter).delay(attempt)
    assert 0 <= delay <= YEAR


@pytest.mark.parametrize(
    ("answer", "delay"), [(math.nan, 0), (-1, 0), (math.inf, YEAR), (1e300, YEAR), (10**400, YEAR), (2.5, 2.5)]
)
def test_a_users_backoff_is_taken_as_it_is_within_reason(answer, delay):
    assert RetryPolicy(backoff=lambda _: answer, jitter="none").delay(1) == delay


def test_a_users_backoff_receives_the_number_of_the_attempt_that_failed():
    seen = []
    policy = RetryPolicy(backoff=lambda attempt: seen.append(attempt) or 0.0)
    policy.decide(ValueError(), 3, 5)
    assert seen == [3]


def test_full_jitter_spreads_over_the_whole_range():
    random.seed(7)
    policy = RetryPolicy(backoff=fixed(10))
    drawn = [policy.delay(1) for _ in range(1000)]
    assert min(drawn) < 1
    assert max(drawn) > 9


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (exponential(1, maximum=60), [1, 2, 4, 8, 16, 32, 60, 60]),
        (exponential(timedelta(seconds=3), factor=1, maximum=9), [3, 3, 3, 3, 3, 3, 3, 3]),
        (exponential(100, maximum=timedelta(seconds=10)), [10] * 8),
        (linear(2, maximum=9), [2, 4, 6, 8, 9, 9, 9, 9]),
        (fixed(timedelta(minutes=1)), [60] * 8),
        (exponential(0), [0] * 8),
    ],
)
def test_the_backoffs_grow_as_they_say(backoff, expected):
    policy = RetryPolicy(backoff=backoff, jitter="none")
    assert [policy.delay(attempt) for attempt in range(1, 9)] == expected


def test_exponential_survives_attempts_past_what_a_float_holds():
    assert RetryPolicy(backoff=exponential(1, maximum=60), jitter="none").delay(1_000_000) == 60


@given(st.integers(1, 100), st.integers(1, 100))
def test_the_last_attempt_is_the_last(attempt, most):
    decision = RetryPolicy(backoff=fixed(1), jitter="none").decide(ValueError(), attempt, most)
    assert decision == (None if attempt >= most else 1)


@given(st.integers(1, 100), st.integers(1, 100), st.floats(0, YEAR))
def test_even_a_retry_the_task_asked_for_ends_at_the_cap(attempt, most, after):
    decision = RetryPolicy().decide(Retry(after=after), attempt, most)
    assert decision == (None if attempt >= most else after)


def test_retry_without_a_time_follows_the_tasks_own_backoff():
    assert RetryPolicy(backoff=fixed(7), jitter="none").decide(Retry(), 1, 5) == 7


def test_retry_after_zero_is_at_once_and_not_the_backoff():
    assert RetryPolicy(backoff=fixed(7), jitter="none").decide(Retry(after=0), 1, 5) == 0


def test_retry_after_more_than_a_year_is_a_year():
    assert RetryPolicy().decide(Retry(after=1e300), 1, 5) == YEAR


def test_retry_is_honoured_whatever_retry_on_says():
    assert RetryPolicy(retry_on=(), fail_on=(Exception,)).decide(Retry(after=1), 1, 5) == 1


@pytest.mark.parametrize("after", [-1, math.nan, math.inf, timedelta(seconds=-1)])
def test_retry_after_nonsense_is_refused(after):
    with pytest.raises(ConfigurationError, match=r"Retry\(after="):
        Retry(after=after)


@pytest.mark.parametrize(
    ("policy", "error", "again"),
    [
        (RetryPolicy(), ValueError(), True),
        (RetryPolicy(), TimeoutError(), True),
        (RetryPolicy(), KeyboardInterrupt(), False),
        (RetryPolicy(retry_on=(OSError,)), ConnectionError(), True),
        (RetryPolicy(retry_on=(OSError,)), ValueError(), False),
        (RetryPolicy(fail_on=(ValueError,)), UnicodeError(), False),
        (RetryPolicy(retry_on=(OSError,), fail_on=(ConnectionError,)), ConnectionResetError(), False),
        (RetryPolicy(retry_on=()), ValueError(), False),
    ],
)
def test_which_errors_are_tried_again(policy, error, again):
    assert policy.retries(error) is again
    assert (policy.decide(error, 1, 5) is not None) is again


def test_never_has_one_attempt():
    assert NEVER.max_attempts == 1
    assert NEVER.decide(ValueError(), 1, NEVER.max_attempts) is None


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: RetryPolicy(max_attempts=0), "max_attempts=0"),
        (lambda: RetryPolicy(jitter="half"), "jitter='half'"),
        (lambda: RetryPolicy(retry_on=ValueError), "retry_on="),
        (lambda: RetryPolicy(retry_on=(1,)), "retry_on="),
        (lambda: RetryPolicy(fail_on=[ValueError]), "fail_on="),
        (lambda: exponential(-1), "first=-1"),
        (lambda: exponential(factor=0.5), "factor=0.5"),
        (lambda: exponential(factor=math.nan), "factor=nan"),
        (lambda: exponential(maximum=math.inf), "maximum=inf"),
        (lambda: linear(math.nan), "step=nan"),
        (lambda: fixed(2 * YEAR), "delay="),
    ],
)
def test_a_policy_that_makes_no_sense_says_which_part(make, names):
    with pytest.raises(ConfigurationError) as raised:
        make()
    assert names in str(raised.value)
