"""common/errors.py: the tree its docstring draws is the tree there is, and errors travel between processes."""

import copy
import inspect
import math
import pickle
import traceback
from datetime import UTC, datetime, timedelta, timezone

import pytest

from common import errors
from common.errors import (
    BarqueError,
    ConfigurationError,
    Discard,
    JobError,
    JobNotFound,
    ResultTimeout,
    Retry,
    Snooze,
    TaskFailed,
    TaskTimedOut,
)


def drawn_tree() -> dict[str, str]:
    """Return each class the docstring draws, with the class it hangs under."""
    parents: dict[str, str] = {}
    branch = ["BarqueError"]
    for line in errors.__doc__.splitlines():
        if "── " not in line:
            continue
        before, _, rest = line.partition("── ")
        depth = (len(before) - 5) // 4 + 1
        name = rest.split()[0]
        branch = [*branch[:depth], name]
        parents[name] = branch[depth - 1]
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    classes = {name: getattr(errors, name) for name in errors.__all__}
    # A class may stand under more than one of ours; the drawing shows one line for each.
    assert set(drawn_tree()) | {"BarqueError"} == set(classes)
    for name, parent in drawn_tree().items():
        ours = [base.__name__ for base in classes[name].__bases__ if issubclass(base, BarqueError)]
        assert ours == [parent], f"{name} is drawn under {parent}"


def test_every_error_of_the_module_is_exported():
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert defined == set(errors.__all__)


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_says_what_it_means(name):
    assert vars(getattr(errors, name)).get("__doc__")


@pytest.mark.parametrize("kind", [ResultTimeout, TaskTimedOut, errors.DeadlinePassed])
def test_what_ran_out_of_time_is_a_timeout_error(kind):
    assert issubclass(kind, TimeoutError)


EXAMPLES = [
    BarqueError("m"),
    errors.ConfigurationError("m"),
    errors.DuplicateTask("m"),
    errors.PickleRefused("m"),
    errors.ArgumentMismatch("m"),
    JobNotFound("m", job_id="j"),
    ResultTimeout("m", job_id="j"),
    errors.JobCancelled("m", job_id="j"),
    TaskFailed(job_id="j", remote_type="builtins.ValueError", remote_message="no", remote_traceback="tb", attempts=3),
    TaskTimedOut(job_id="j", remote_type="builtins.TimeoutError", remote_message=""),
    Retry(after=2.5, reason="busy"),
    Retry(),
    Snooze(after=2.5, reason="closed"),
    Snooze(until=datetime(2030, 1, 1, tzinfo=UTC)),
    Discard("gone"),
    errors.JobDiscarded("m", job_id="j", reason="gone"),
    errors.DeadlinePassed("m"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("carry", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_an_error_survives_pickling_and_copying(error, carry):
    other = carry(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


def test_task_failed_shows_the_workers_traceback_under_its_message():
    error = TaskFailed(
        job_id="j1", remote_type="shop.Refused", remote_message="no stock", remote_traceback="Traceback of the worker"
    )
    shown = "".join(traceback.format_exception(error))
    assert "shop.Refused: no stock" in shown
    assert "In the worker (job j1):\nTraceback of the worker" in shown
    assert error.attempts == 1


@pytest.mark.parametrize(
    ("remote_type", "message", "text"),
    [("builtins.ValueError", "no", "ValueError: no"), ("builtins.KeyError", "", "KeyError"), ("a.B", "c", "a.B: c")],
)
def test_task_failed_reads_as_the_original_did(remote_type, message, text):
    error = TaskFailed(job_id="j", remote_type=remote_type, remote_message=message)
    assert str(error) == text
    assert isinstance(error, JobError)
    assert error.job_id == "j"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give after= or until="),
        ({"after": 1, "until": datetime(2030, 1, 1, tzinfo=UTC)}, "give after= or until="),
        ({"until": datetime(2030, 1, 1)}, "needs a time zone"),  # noqa: DTZ001 - that is the mistake
        ({"after": -1}, "after=-1"),
        ({"after": math.nan}, "after=nan"),
        ({"after": math.inf}, "after=inf"),
        ({"after": timedelta(days=5000)}, "after="),
    ],
)
def test_a_snooze_that_makes_no_sense_says_why(arguments, message):
    with pytest.raises(ConfigurationError) as raised:
        Snooze(**arguments)
    assert message in str(raised.value)


def test_a_snooze_until_any_time_zone_is_the_same_moment():
    there = Snooze(until=datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert there.until == Snooze(until=datetime(2030, 1, 1, tzinfo=UTC)).until
