"""Every error Barque raises, in one tree.

    BarqueError
    ├── ConfigurationError          a setting, a task or an argument of ours is wrong
    │   ├── DuplicateTask           two functions claim one task name
    │   └── ScheduleExists          a schedule of that name is there, and is not to be changed so
    ├── RedisUnavailable            the server cannot be reached, or refuses us
    │   └── NotConfirmed            it has the job, but did not confirm in time that the job is durable
    ├── NoServerBinary              no Valkey or Redis is installed to embed
    ├── PayloadError                bytes or values that cannot travel
    │   ├── NotSerializable         a value has no form on the wire; names the part
    │   ├── PayloadTooLarge         a job's payload, or an item of its stream, is over the limit
    │   ├── StreamFull              a job's stream has as many items, or bytes, as it may
    │   ├── Undecodable             the stored bytes are not a job or a result
    │   │   ├── PickleRefused       the bytes are a pickle, and pickles are not accepted
    │   │   └── SignatureRefused    the bytes are not signed, or not by a key of ours
    │   └── ArgumentMismatch        an argument is not what the task's annotation says
    ├── TaskNotFound                a worker has no task of that name
    ├── JobLost                     the worker of a job's last attempt was lost
    ├── BatchMismatch               a batch function returned another number of outcomes than it had items
    ├── ResourceFailed              what the tasks of a worker share could not be opened, or is gone
    ├── ScheduleNotFound            there is no schedule of that name
    ├── JobError                    about one job; carries its id
    │   ├── DuplicateJob            a job of the same unique key is there, and the task rejects others
    │   ├── JobNotFound             no such job, or its result is no longer kept
    │   ├── JobNotWaiting           the job runs or has ended, so that it cannot be rescheduled
    │   ├── ResultTimeout           no result within the time the caller gave (a TimeoutError)
    │   ├── TaskFailed              the task raised; carries the remote type, message, traceback
    │   │   └── TaskTimedOut        the attempt ran past its timeout
    │   └── JobCancelled            the job was aborted
    │       └── JobDiscarded        the task itself ended it, without a result
    ├── DeadlinePassed              a job's deadline passed before it had ended; the remote type of a TaskTimedOut
    ├── Retry                       raised *by a task*: try again after a time
    ├── Snooze                      raised *by a task*: not now; the attempt does not count
    └── Discard                     raised *by a task*: there is nothing to be done for this job

This module knows no Redis, no asyncio and no wire format. Whoever catches `BarqueError` catches all
that Barque raises on its own account.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = [
    "ArgumentMismatch",
    "BarqueError",
    "BatchMismatch",
    "ConfigurationError",
    "DeadlinePassed",
    "Discard",
    "DuplicateJob",
    "DuplicateTask",
    "JobCancelled",
    "JobDiscarded",
    "JobError",
    "JobLost",
    "JobNotFound",
    "JobNotWaiting",
    "NoServerBinary",
    "NotConfirmed",
    "NotSerializable",
    "PayloadError",
    "PayloadTooLarge",
    "PickleRefused",
    "RedisUnavailable",
    "ResourceFailed",
    "ResultTimeout",
    "Retry",
    "ScheduleExists",
    "ScheduleNotFound",
    "SignatureRefused",
    "Snooze",
    "StreamFull",
    "TaskFailed",
    "TaskNotFound",
    "TaskTimedOut",
    "Undecodable",
]

_LONGEST_SNOOZE = 10 * 365 * 24 * 3600.0


class BarqueError(Exception):
    """The root of the tree."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own way calls the class with `args`, and most of these take keywords.
        return _restore, (type(self), self.args, dict(vars(self)))


def _restore(kind: type[BarqueError], args: tuple[Any, ...], attributes: dict[str, Any]) -> BarqueError:
    error: BarqueError = kind.__new__(kind, *args)
    error.args = args  # a TimeoutError, being an OSError, takes them in __init__ alone
    vars(error).update(attributes)
    return error


class ConfigurationError(BarqueError):
    """A setting, a task definition or an option is wrong; the message says what to change."""


class DuplicateTask(ConfigurationError):
    """Two functions were registered under one task name; the message names both places."""


class ScheduleExists(ConfigurationError):
    """A schedule of that name is there already, or is declared in the code of live workers."""


class RedisUnavailable(BarqueError):
    """The server cannot be reached, or refuses us; the message says where and why.

    Attributes:
        passing: it may be over in a moment; False where somebody has to change something, a wrong password say.
    """

    passing = True


class NotConfirmed(RedisUnavailable):
    """The server took a job, but did not confirm in time that it is durable: the job may be there and run."""


class NoServerBinary(BarqueError):
    """No Valkey or Redis server is installed here; the message says what to install."""


class PayloadError(BarqueError):
    """Bytes or values that cannot travel between a producer and a worker."""


class NotSerializable(PayloadError):
    """A value has no form on the wire; the message names the part that has none."""


class PayloadTooLarge(PayloadError):
    """A job's payload, a result or an item of a stream is over its limit; the message names the setting."""


class StreamFull(PayloadError):
    """A job's stream has as many items, or bytes, as `BARQUE_STREAM_MAX_ITEMS` and `…_BYTES` let it have."""


class Undecodable(PayloadError):
    """The stored bytes are neither a job nor a result."""


class PickleRefused(Undecodable):
    """The bytes are a pickle, and decoding a pickle runs code."""


class SignatureRefused(Undecodable):
    """The bytes are not signed by a key of `BARQUE_SIGNING_KEYS`, or were signed for another job."""


class ArgumentMismatch(PayloadError):
    """An argument is not what the task's annotation says; the message has the path to the field."""


class TaskNotFound(BarqueError):
    """A worker took a job of a task it does not have."""


class JobLost(BarqueError):
    """A job's last attempt was lost with its worker: killed, out of memory, cut off, or held up past its lease."""


class BatchMismatch(BarqueError):
    """The function of a `@task(batch=…)` returned another number of outcomes than it had items; not tried again."""


class ResourceFailed(BarqueError):
    """What the tasks of a worker share (`@lifespan`) could not be opened, or ended while it was in use."""


class ScheduleNotFound(BarqueError):
    """There is no schedule of that name."""


class JobError(BarqueError):
    """Something about one job."""

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class DuplicateJob(JobError):
    """Nothing was enqueued: the job of this id has the same unique key, and `on_conflict` is "reject".

    Attributes:
        queue: where that job is.
    """

    def __init__(self, message: str, *, job_id: str, queue: str) -> None:
        super().__init__(message, job_id=job_id)
        self.queue = queue


class JobNotFound(JobError):
    """No such job: it never was, or it ended and its result is no longer kept."""


class JobNotWaiting(JobError):
    """The job runs, or has ended: too late to reschedule it. The message says which."""


class ResultTimeout(JobError, TimeoutError):
    """No result within the time the caller gave. The job itself goes on."""


class TaskFailed(JobError):
    """The task raised, on another machine.

    Attributes:
        remote_type: the exception's class as `module.Name`, such as `builtins.ValueError`.
        remote_message: `str()` of the exception.
        remote_traceback: the formatted traceback from the worker, or "" if none was kept.
        attempts: how many attempts the job had.
    """

    def __init__(
        self,
        *,
        job_id: str,
        remote_type: str,
        remote_message: str,
        remote_traceback: str = "",
        attempts: int = 1,
    ) -> None:
        name = remote_type.removeprefix("builtins.")
        super().__init__(f"{name}: {remote_message}" if remote_message else name, job_id=job_id)
        self.remote_type = remote_type
        self.remote_message = remote_message
        self.remote_traceback = remote_traceback
        self.attempts = attempts
        if remote_traceback:
            # Shown under the message in any traceback of the caller's own (PEP 678).
            self.add_note(f"\nIn the worker (job {job_id}):\n{remote_traceback.rstrip()}")


class TaskTimedOut(TaskFailed, TimeoutError):
    """The job's last attempt ran past its timeout, or the job past its deadline."""


class JobCancelled(JobError):
    """The job ended before it had a result, because somebody wanted it so: it was aborted, or discarded."""


class JobDiscarded(JobCancelled):
    """The task itself ended the job with `raise Discard(reason)`.

    Attributes:
        reason: what the task said.
    """

    def __init__(self, message: str, *, job_id: str, reason: str = "") -> None:
        super().__init__(message, job_id=job_id)
        self.reason = reason


class DeadlinePassed(BarqueError, TimeoutError):
    """A job's deadline passed before it had ended: no attempt of it starts any more."""


class Retry(BarqueError):
    """Raise inside a task to have this job tried again.

    The attempt counts. When it was the last one the job fails with this error's `__cause__` if it
    has one (`raise Retry(after=5) from error`), else with this error.

    Args:
        after: seconds (or a timedelta) to wait; None follows the task's own backoff.
        reason: shown in the log line.
    """

    def __init__(self, after: float | timedelta | None = None, reason: str = "the task asked for a retry") -> None:
        super().__init__(reason)
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and not 0 <= seconds < float("inf"):
            raise ConfigurationError(f"Retry(after={after!r}): give a number of seconds, zero or more")
        self.after = seconds
        self.reason = reason


class Snooze(BarqueError):
    """Raise inside a task to have this job put back until later: it is not time yet.

    The attempt does not count, so a job may be snoozed as often as its task likes; each time writes a line,
    `job_snoozed`. A job with a deadline is not put back past it, but ends.

    Args:
        after: seconds (or a timedelta) from now.
        until: a moment, aware of its time zone; one that has passed is at once. Give one of the two.
        reason: shown in the log line.
    """

    def __init__(
        self,
        after: float | timedelta | None = None,
        *,
        until: datetime | None = None,
        reason: str = "the task asked to wait",
    ) -> None:
        super().__init__(reason)
        if (after is None) == (until is None):
            raise ConfigurationError("Snooze: give after= or until=, one of them")
        if until is not None and until.tzinfo is None:
            raise ConfigurationError("Snooze(until=…) needs a time zone: datetime.now(tz=UTC) + …, or .astimezone()")
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and not 0 <= seconds <= _LONGEST_SNOOZE:
            raise ConfigurationError(f"Snooze(after={after!r}): give a number of seconds, from zero to ten years")
        self.after = seconds
        self.until = None if until is None else until.astimezone(UTC)
        self.reason = reason


class Discard(BarqueError):
    """Raise inside a task to end this job here and now, without a result: what it was to do is not wanted any more.

    It is no failure: there is no other attempt and no dead letter, and whoever waits for the result gets
    `JobDiscarded`, with the reason.
    """

    def __init__(self, reason: str = "the task discarded its job") -> None:
        super().__init__(reason)
        self.reason = reason
