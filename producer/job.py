"""The handle of an enqueued job: ask where it stands, wait for its result, abort or reschedule it.

Owns what a result means to the caller: the typed value, or the exception. Holds no state of the job but a result
that has arrived.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Coroutine, Generator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from common.errors import (
    ConfigurationError,
    JobCancelled,
    JobDiscarded,
    JobNotFound,
    JobNotWaiting,
    ResultTimeout,
    TaskFailed,
    TaskTimedOut,
    Undecodable,
)
from common.jobs import JobInfo, JobState, OutcomeKind, RemoteError
from common.progress import Item, Progress, decode_item, decode_progress
from common.redis.control import Abort, ControlStore
from common.result_codec import IGNORED, Result, decode_result
from common.values import ValueReader, to_plain
from producer.cancelled import cancelled_result
from producer.options import due_time

if TYPE_CHECKING:
    from common.tasks import Task
    from producer.client import Producer

__all__ = ["Job"]

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

_NOT_WAITING = {
    JobState.RUNNING: "a worker has it",
    JobState.SUCCEEDED: "it has succeeded",
    JobState.FAILED: "it has failed for good",
    JobState.CANCELLED: "it was aborted",
    JobState.ENDED: "it has ended",
}


class Job(Generic[R_co]):
    """One enqueued job.

    Attributes:
        job_id: its id.
        queue: the queue it is in.
        is_new: whether this enqueue added it; False when a job of this id, or of this unique key, was there already,
            in which case this is the handle of that one.
        replaced: whether this enqueue replaced the arguments of that one.
    """

    __slots__ = ("_producer", "_raw", "_task", "is_new", "job_id", "queue", "replaced")

    def __init__(
        self,
        producer: Producer,
        job_id: str,
        *,
        queue: str,
        task: Task[..., R_co] | None = None,
        is_new: bool = True,
        replaced: bool = False,
    ) -> None:
        self._producer = producer
        self._task = task
        self._raw: bytes | None = None
        self.job_id = job_id
        self.queue = queue
        self.is_new = is_new
        self.replaced = replaced

    def __repr__(self) -> str:
        was_there = "" if self.is_new else ", was there already"
        return f"<Job {self.job_id} in {self.queue}{was_there}{', replaced' if self.replaced else ''}>"

    def __await__(self) -> Generator[Any, None, R_co]:
        """`await job` is `await job.result()`."""
        return self.result().__await__()

    async def result(self, timeout: float | timedelta | None = None) -> R_co:
        """Return what the task returned, as its return annotation says; wait for it if need be.

        A job that ended with an error which its policy ignores has None, whatever the annotation.

        Args:
            timeout: seconds to wait; None waits as long as it takes.

        Raises:
            ResultTimeout: there is none yet. The job goes on.
            TaskFailed: the task raised; the error has the remote type, message and traceback.
            TaskTimedOut: the last attempt ran past its timeout, or the job past its deadline.
            JobCancelled: the job was aborted.
            JobDiscarded: the task itself ended the job, without a result.
            JobNotFound: there is no such job, or its result is not kept.
            SignatureRefused: `BARQUE_SIGNING_KEYS` is set, and no worker that has a key wrote this result.
            RedisUnavailable: the server cannot be reached.
        """
        if self._raw is None:
            self._raw = await self._producer.results.wait(self.job_id, _seconds(timeout))
        result = decode_result(self._raw, self._producer.reading, self.job_id)
        if not result.success:
            raise self._error(result)
        if result.form != "msgpack":
            value: R_co = result.value
            return value
        if self._task is None or result.outcome == IGNORED:
            plain: R_co = to_plain(result.value)
            return plain
        typed: R_co = self._task.result.read(result.value, f"the result of {result.task}")
        return typed

    async def wait(self, timeout: float | timedelta | None = None) -> None:
        """Wait until the job has ended, however it ended.

        Raises:
            ResultTimeout, JobNotFound, RedisUnavailable: see `result`.
        """
        if self._raw is None:
            self._raw = await self._producer.results.wait(self.job_id, _seconds(timeout))

    async def progress(self) -> Progress | None:
        """Return what the job last said of how far it is; None where it has said nothing, or that is no longer kept.

        Raises:
            SignatureRefused: `BARQUE_SIGNING_KEYS` is set, and no worker that has a key wrote it.
            RedisUnavailable: the server cannot be reached.
        """
        raw = await self._producer.watching.progress(self.job_id)
        return None if raw is None else decode_progress(raw, self._producer.reading, self.job_id)

    async def watch(self) -> AsyncIterator[Progress]:
        """Yield what the job says of how far it is, from what it said last, until it has ended.

        Pushed, not polled. Who is slow to take one gets the newest next, not all in between; the last one always comes.

        Raises:
            JobNotFound: there is no such job, and nothing is kept of it.
            SignatureRefused, RedisUnavailable: see `progress`.
        """
        watching = self._producer.watching
        shown: bytes | None = None
        async with watching.of(self.job_id, self._raw) as watch:
            while True:
                await watch.news.wait()
                watch.news.clear()
                ended, latest = watch.ended.done(), watch.latest
                if ended:  # a push may have been lost with its connection
                    latest = await watching.progress(self.job_id) or latest
                if latest is not None and latest != shown:
                    shown = latest
                    yield decode_progress(latest, self._producer.reading, self.job_id)
                if ended:
                    break
            try:
                self._raw = watch.ended.result()
            except JobNotFound:
                if shown is None:
                    raise

    @overload
    def stream(self) -> AsyncIterator[Item[Any]]: ...

    @overload
    def stream(self, kind: type[T]) -> AsyncIterator[Item[T]]: ...

    @overload
    def stream(self, kind: Any) -> AsyncIterator[Item[Any]]: ...

    async def stream(self, kind: Any = Any) -> AsyncIterator[Item[Any]]:
        """Yield the items the job emits: those there are, from the first, then each as it comes, until it has ended.

        No item is left out or comes twice, whatever becomes of the connection; any number of readers may read at once,
        each at its own pace, while the items are kept: as long as the result. Where an item's `number` is 1 the stream
        begins anew: the attempt before did not end well.

        Args:
            kind: the type of the items' values, any that an argument of a task may have; plain data by default.

        Raises:
            ArgumentMismatch: an item is not of this type.
            TaskFailed, TaskTimedOut, JobCancelled: at the end, if the job did not succeed; see `result`.
            JobNotFound: at the end, if nothing is known of how the job ended.
            SignatureRefused, RedisUnavailable: see `progress`.
        """
        reader = None if kind is Any else ValueReader(kind)
        watching = self._producer.watching
        last: bytes | None = None
        async with watching.of(self.job_id, self._raw) as watch:
            while True:
                await watch.news.wait()
                watch.news.clear()
                ended = watch.ended.done()  # all there is was written before that
                more = True
                while more:
                    found, more = await watching.items(self.job_id, last)
                    for stored in found:
                        last = stored.entry
                        yield decode_item(stored.raw, stored.number, self.job_id, self._producer.reading, reader)
                if ended:
                    break
            self._raw = watch.ended.result()
        ending = decode_result(self._raw, self._producer.reading, self.job_id)
        if not ending.success:
            raise self._error(ending)

    async def status(self) -> JobState:
        """Return where the job stands now."""
        return await self._ask(self._producer.inspector.state(self.job_id, self.queue), "the status")

    async def info(self) -> JobInfo:
        """Return all that is stored on the job, without waiting."""
        return await self._ask(self._producer.inspector.job(self.job_id, self.queue), "what is stored")

    async def abort(self, *, wait: float | None = 10.0) -> bool:
        """End the job as cancelled: at once if it waits, by cancelling its coroutine if it runs.

        Args:
            wait: seconds to wait for a running job to end; 0 does not wait, None waits as long as it takes.

        Returns:
            True when the job ended as cancelled; False when it ended in another way, was not there, or has not
            ended yet (the request stands). Where no result is kept, and the job ends before this can ask for it,
            there is nothing left to tell how: False.
        """
        producer = self._producer
        payload = await self._ask(producer.store.payload(self.job_id), "the abort")
        result = cancelled_result(producer.reading, self.job_id, self.queue, payload)
        # A job that is enqueued under this id from here on is another one, and goes its way.
        wish = Abort(self.job_id, result, payload if payload is not None else b"")
        (answer,) = await self._ask(
            ControlStore(producer.store.client).abort(self.queue, [wish], keep_ms=producer.keep_cancelled_ms),
            "the abort",
            otherwise="it may have been aborted or not",
        )
        if answer == "cancelled":
            return True
        if answer == "running" and wait != 0:
            try:
                await self.wait(wait)
            except (ResultTimeout, JobNotFound):
                return False
            assert self._raw is not None
            with contextlib.suppress(Undecodable):  # what was pushed says it even where no result is kept
                return decode_result(self._raw, self._producer.reading, self.job_id).outcome == OutcomeKind.CANCELLED
        return await self.status() is JobState.CANCELLED

    async def reschedule(self, *, delay: float | timedelta | None = None, at: datetime | None = None) -> datetime:
        """Have the job come due at another time, where it waits still: queued, delayed, or between two attempts.

        The attempts it has had stay counted. A worker that sleeps until the next due job hears of it.

        Args:
            delay: seconds from now, by the server's clock; 0 is at once.
            at: when; aware of its time zone. A time that is past is at once.

        Returns:
            When it is due now.

        Raises:
            JobNotWaiting: it runs, or has ended.
            JobNotFound: there is no such job in this queue, or it ended and its result is no longer kept.
            ConfigurationError: neither or both are given; or the job expires before then.
        """
        due = due_time(delay, at)
        asked = ControlStore(self._producer.store.client).reschedule(
            self.queue, self.job_id, delay_ms=due.delay_ms, at_ms=due.at_ms
        )
        word, at_ms = await self._ask(asked, "another time", otherwise="it may have been rescheduled or not")
        moment = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
        if word == "moved":
            return moment
        if word == "expires":
            raise ConfigurationError(
                f"job {self.job_id} expires at {moment:%Y-%m-%d %H:%M:%S} UTC, before it would be due; "
                "it was left as it is"
            )
        state = JobState.RUNNING if word == "running" else await self.status()
        if state is JobState.UNKNOWN:
            raise JobNotFound(
                f"job {self.job_id} cannot be rescheduled: it is not in {self.queue}, and no result of it is kept",
                job_id=self.job_id,
            )
        why = _NOT_WAITING.get(state, "another one was enqueued under its id this moment")
        raise JobNotWaiting(f"job {self.job_id} cannot be rescheduled: {why}", job_id=self.job_id)

    async def _ask(self, call: Coroutine[Any, Any, T], what: str, *, otherwise: str = "") -> T:
        return await self._producer.answers.of(call, f"{what} of job {self.job_id}", otherwise=otherwise)

    def _error(self, result: Result) -> Exception:
        error = result.error or RemoteError("builtins.Exception", "")
        if result.outcome == OutcomeKind.CANCELLED:
            return JobCancelled(f"job {self.job_id} ({result.task}) was aborted", job_id=self.job_id)
        if result.outcome == OutcomeKind.DISCARDED:
            said = f"job {self.job_id} ({result.task}) was discarded by its task: {error.message}"
            return JobDiscarded(said, job_id=self.job_id, reason=error.message)
        kind = TaskTimedOut if result.outcome == OutcomeKind.TIMED_OUT else TaskFailed
        failure = kind(
            job_id=self.job_id,
            remote_type=error.type,
            remote_message=error.message,
            remote_traceback=error.traceback,
            attempts=result.attempt,
        )
        failure.__cause__ = result.exception
        return failure


def _seconds(timeout: float | timedelta | None) -> float | None:
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if seconds is not None and math.isnan(seconds):  # it would stand in the way of all other limits
        raise ValueError("timeout= is to be a number of seconds, not NaN")
    return seconds
