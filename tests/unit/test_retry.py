"""common/retry.py: when a failed attempt is tried again, and after how long."""

import math
import pickle
import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigurationError, Retry
from common.retry import NEVER, Decision, RetryPolicy, RetryRule, exponential, fixed, linear
from common.retry_after import LONGEST_WAIT

YEAR = 365 * 24 * 3600.0
FAILED = Decision("fail")

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
    assert decision == (FAILED if attempt >= most else Decision("retry", 1))


@given(st.integers(1, 100), st.integers(1, 100), st.floats(0, YEAR))
def test_even_a_retry_the_task_asked_for_ends_at_the_cap(attempt, most, after):
    decision = RetryPolicy().decide(Retry(after=after), attempt, most)
    assert decision == (FAILED if attempt >= most else Decision("retry", after))


def test_retry_without_a_time_follows_the_tasks_own_backoff():
    assert RetryPolicy(backoff=fixed(7), jitter="none").decide(Retry(), 1, 5).delay == 7


def test_retry_after_zero_is_at_once_and_not_the_backoff():
    assert RetryPolicy(backoff=fixed(7), jitter="none").decide(Retry(after=0), 1, 5) == Decision("retry", 0)


def test_retry_after_more_than_a_year_is_a_year():
    assert RetryPolicy().decide(Retry(after=1e300), 1, 5).delay == YEAR


def test_retry_is_honoured_whatever_retry_on_says():
    assert RetryPolicy(retry_on=(), fail_on=(Exception,)).decide(Retry(after=1), 1, 5) == Decision("retry", 1)


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
    assert (policy.decide(error, 1, 5).then == "retry") is again


def test_never_has_one_attempt():
    assert NEVER.max_attempts == 1
    assert NEVER.decide(ValueError(), 1, NEVER.max_attempts) == FAILED


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
        (lambda: RetryPolicy(max_attempts=2.5), "max_attempts=2.5"),
        (lambda: RetryPolicy(backoff=5), "backoff=5"),
        (lambda: RetryPolicy(max_time=-1), "max_time=-1"),
        (lambda: RetryPolicy(max_time=math.nan), "max_time=nan"),
        (lambda: RetryPolicy(rules=[ValueError]), "rules=["),
        (lambda: RetryPolicy(rules={1: "fail"}), "rules={1"),
        (lambda: RetryPolicy(rules={ValueError: "give up"}), "'give up'"),
        (lambda: RetryPolicy(rules={ValueError: "retry"}, fail_on=(ValueError,)), "ValueError is in fail_on and"),
        (lambda: RetryRule("sometimes"), "'sometimes'"),
        (lambda: RetryRule(max_attempts=0), "max_attempts=0"),
        (lambda: RetryRule(backoff=1.0), "backoff=1.0"),
        (lambda: RetryRule("fail", max_attempts=3), "only a retry has"),
    ],
)
def test_a_policy_that_makes_no_sense_says_which_part(make, names):
    with pytest.raises(ConfigurationError) as raised:
        make()
    assert names in str(raised.value)


# --- rules by class


class Refused(ConnectionError): ...


class Odd(Refused, ValueError):
    """Of two families: its MRO is Odd, Refused, ConnectionError, OSError, ValueError, Exception."""


@pytest.mark.parametrize(
    ("policy", "error", "then"),
    [
        (RetryPolicy(rules={ValueError: "fail"}), UnicodeError(), "fail"),
        (RetryPolicy(rules={ValueError: "fail"}), OSError(), "retry"),
        (RetryPolicy(rules={ValueError: "ignore"}), ValueError(), "ignore"),
        (RetryPolicy(rules={OSError: "fail", ConnectionError: "retry"}), Refused(), "retry"),
        (RetryPolicy(rules={ConnectionError: "retry", OSError: "fail"}), PermissionError(), "fail"),
        (RetryPolicy(rules={ValueError: "ignore", OSError: "fail"}), Odd(), "fail"),
        (RetryPolicy(rules={Exception: "ignore"}), ValueError(), "ignore"),
        (RetryPolicy(rules={BaseException: "ignore"}), KeyboardInterrupt(), "ignore"),
        (
            RetryPolicy(rules={BaseException: "ignore"}),
            ValueError(),
            "retry",
        ),  # retry_on names Exception, which is nearer
        (RetryPolicy(rules={Exception: "retry"}, fail_on=(OSError,)), ConnectionError(), "fail"),
        (RetryPolicy(rules={ConnectionError: "retry"}, fail_on=(OSError,)), Refused(), "retry"),
        (RetryPolicy(rules={Exception: "ignore"}, retry_on=(OSError,)), ConnectionError(), "retry"),
        (RetryPolicy(rules={OSError: "ignore"}, retry_on=(OSError,)), ConnectionError(), "ignore"),
        (RetryPolicy(retry_on=(ConnectionError,), fail_on=(OSError,)), Refused(), "fail"),
        (RetryPolicy(rules={LookupError: "retry"}, retry_on=()), KeyError(), "retry"),
        (RetryPolicy(rules={LookupError: "retry"}, retry_on=()), ValueError(), "fail"),
        (RetryPolicy(rules={Retry: "fail", Exception: "fail"}), Retry(after=0), "retry"),
    ],
)
def test_the_rule_of_the_most_specific_class_holds(policy, error, then):
    assert policy.decide(error, 1, 5).then == then
    assert policy.retries(error) is (then == "retry")


def test_a_rule_has_a_backoff_and_a_cap_of_its_own():
    policy = RetryPolicy(
        max_attempts=10, backoff=fixed(1), jitter="none", rules={OSError: RetryRule(max_attempts=3, backoff=fixed(60))}
    )
    assert policy.decide(ValueError(), 3, 10) == Decision("retry", 1)
    assert policy.decide(OSError(), 2, 10) == Decision("retry", 60)
    last = policy.decide(OSError(), 3, 10)
    assert (last.then, "final after attempt 3" in last.why) == ("fail", True)


def test_the_cap_of_a_rule_only_lowers():
    policy = RetryPolicy(rules={OSError: RetryRule(max_attempts=50)})
    assert policy.decide(OSError(), 5, 5) == FAILED


rules = st.dictionaries(
    st.sampled_from([Exception, OSError, ConnectionError, ValueError, LookupError, Refused]),
    st.sampled_from(["retry", "fail", "ignore"]),
)
errors = st.sampled_from([OSError, ConnectionError, ValueError, KeyError, Refused, Odd, UnicodeError, RuntimeError])


@given(rules, errors)
def test_without_the_older_options_the_nearest_class_of_the_mro_decides(given_rules, error):
    named = [given_rules[kind] for kind in error.__mro__ if kind in given_rules]
    assert RetryPolicy(rules=given_rules).decide(error(), 1, 5).then == (named[0] if named else "retry")


# --- the cap on all the time there is


@given(backoffs, attempts, st.floats(0, 1e6), st.floats(0, 1e6))
def test_no_attempt_begins_past_the_cap_on_total_time(backoff, attempt, most, gone):
    policy = RetryPolicy(backoff=backoff[0], max_time=most)
    decision = policy.decide(ValueError(), attempt, attempt + 1, gone=gone)
    if decision.then == "retry":
        assert gone + decision.delay <= most
    else:
        assert gone + backoff[1] > most
        assert f"past max_time={most:g} s" in decision.why


def test_a_retry_the_task_asked_for_is_held_to_the_cap_on_total_time():
    policy = RetryPolicy(max_time=timedelta(minutes=1))
    assert policy.decide(Retry(after=50), 1, 5, gone=10).then == "retry"
    assert policy.decide(Retry(after=51), 1, 5, gone=10).then == "fail"


# --- Retry-After


class Asks(Exception):
    def __init__(self, seconds: float) -> None:
        super().__init__("busy")
        self.retry_after = seconds


@given(backoffs, attempts, st.floats(0, 1e9), st.sampled_from(["full", "none"]))
def test_retry_after_lengthens_the_backoff_and_never_shortens_it(backoff, attempt, seconds, jitter):
    policy = RetryPolicy(backoff=backoff[0], jitter=jitter)
    asked = min(seconds, LONGEST_WAIT)
    delay = policy.decide(Asks(seconds), attempt, attempt + 1).delay
    assert asked <= delay <= max(asked * 1.1, backoff[1])
    if jitter == "none":
        assert delay == max(asked, RetryPolicy(backoff=backoff[0], jitter="none").delay(attempt))


def test_retry_after_can_be_left_unheard():
    policy = RetryPolicy(backoff=fixed(1), jitter="none", heed_retry_after=False)
    assert policy.decide(Asks(60), 1, 5).delay == 1


def test_what_the_task_itself_says_goes_before_what_its_error_was_told():
    def failing(after):
        try:
            raise Retry(after=after) from Asks(60)
        except Retry as error:
            return RetryPolicy(backoff=fixed(1), jitter="none").decide(error, 1, 5).delay

    assert failing(5) == 5
    assert failing(None) == 60


def test_nobody_looks_for_a_retry_after_where_there_is_no_retry():
    class Watched(Exception):
        @property
        def retry_after(self):
            raise AssertionError("looked at")

    policy = RetryPolicy(fail_on=(Watched,))
    assert policy.decide(Watched(), 1, 5) == FAILED
    assert RetryPolicy().decide(Watched(), 5, 5) == FAILED


# --- plain data


def my_backoff(attempt: int) -> float:
    return attempt * 2.0


POLICY = RetryPolicy(
    max_attempts=4,
    backoff=exponential(1, maximum=30),
    rules={OSError: RetryRule(max_attempts=2, backoff=linear(3)), ValueError: "fail"},
    max_time=timedelta(minutes=5),
)


def test_a_policy_is_plain_data():
    same = RetryPolicy(
        max_attempts=4,
        backoff=exponential(timedelta(seconds=1), maximum=30),
        rules={ValueError: RetryRule("fail"), OSError: RetryRule("retry", 2, linear(3))},
        max_time=300,
    )
    assert same == POLICY
    assert hash(same) == hash(POLICY)
    assert same != RetryPolicy(max_attempts=4)


def test_what_a_policy_was_made_of_may_change_without_it():
    given = {OSError: "fail"}
    policy = RetryPolicy(rules=given)
    given[ValueError] = "ignore"
    assert policy.decide(ValueError(), 1, 5).then == "retry"


@pytest.mark.parametrize("policy", [POLICY, NEVER, RetryPolicy(), RetryPolicy(backoff=my_backoff)])
def test_a_policy_can_be_pickled_where_its_backoff_can(policy):
    assert pickle.loads(pickle.dumps(policy)) == policy


def test_a_policy_reads_as_it_was_written():
    assert repr(RetryPolicy(max_attempts=3, backoff=fixed(5), jitter="none")) == (
        "RetryPolicy(max_attempts=3, backoff=fixed(5), jitter='none')"
    )
    assert repr(RetryPolicy()) == "RetryPolicy()"
    assert "linear(3, maximum=60)" in repr(POLICY)
    assert "exponential(1, factor=2, maximum=30)" in repr(POLICY)
