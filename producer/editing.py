"""Make a new job of an earlier one, with other arguments or options, as a method of a producer.

Owns the order of things: the new job is there before anything is taken away from the earlier one, so that none is lost
whatever dies in between. What the earlier one was is earlier.py's. `BlockingEditing` is the same for synchronous code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, Unpack, overload

from common.errors import ConfigurationError, JobNotWaiting
from common.jobs import JobState
from common.redis.control import Abort, ControlStore
from common.redis.dead_letters import DeadStore
from common.tasks import Call, Task
from producer.options import EnqueueArguments, check_id_from_elsewhere

if TYPE_CHECKING:
    from common.codec import Reading
    from common.redis.inspect import Inspector
    from common.redis.store import Store
    from common.settings import Settings
    from producer.answers import Answers
    from producer.blocking import BlockingJob, _Opened
    from producer.earlier import Earlier
    from producer.job import Job
    from producer.options import EnqueueOptions

__all__ = ["BlockingEditing", "Editing", "Open", "Reenqueued"]

R = TypeVar("R")
J = TypeVar("J")


@dataclass(frozen=True, slots=True)
class Reenqueued(Generic[J]):
    """What became of a job that was enqueued again.

    Attributes:
        job: the new one; with `is_new` False one that was there, by its id or unique key.
        earlier: where the earlier one stood.
        replaced: whether the earlier one was taken away: it waited and has ended, or its dead letter is deleted.
    """

    job: J
    earlier: JobState
    replaced: bool


class Open(Protocol):
    """What is needed of a producer."""

    settings: Settings
    reading: Reading
    answers: Answers
    keep_cancelled_ms: int

    @property
    def store(self) -> Store:
        """Every write."""

    @property
    def inspector(self) -> Inspector:
        """Every read for people."""

    async def _enqueue_seen(
        self,
        call: Call[R],
        options: EnqueueOptions,
        job_id: str | None,
        durable: bool | None,  # noqa: FBT001 - as Producer's
    ) -> Job[R]: ...


class Editing:
    """What `Producer` has this method from."""

    @overload
    async def reenqueue(
        self: Open,
        job_id: str,
        *,
        call: Call[R],
        new_id: str | None = None,
        replace: bool = False,
        in_queue: str | None = None,
        durable: bool | None = None,
        **options: Unpack[EnqueueArguments],
    ) -> Reenqueued[Job[R]]: ...

    @overload
    async def reenqueue(
        self: Open,
        job_id: str,
        *,
        task: Task[..., R],
        arguments: Mapping[int | str, Any] | None = None,
        new_id: str | None = None,
        replace: bool = False,
        in_queue: str | None = None,
        durable: bool | None = None,
        **options: Unpack[EnqueueArguments],
    ) -> Reenqueued[Job[R]]: ...

    @overload
    async def reenqueue(
        self: Open,
        job_id: str,
        *,
        arguments: Mapping[int | str, Any] | None = None,
        new_id: str | None = None,
        replace: bool = False,
        in_queue: str | None = None,
        durable: bool | None = None,
        **options: Unpack[EnqueueArguments],
    ) -> Reenqueued[Job[Any]]: ...

    async def reenqueue(
        self: Open,
        job_id: str,
        *,
        call: Call[Any] | None = None,
        arguments: Mapping[int | str, Any] | None = None,
        task: Task[..., Any] | None = None,
        new_id: str | None = None,
        replace: bool = False,
        in_queue: str | None = None,
        durable: bool | None = None,
        **options: Unpack[EnqueueArguments],
    ) -> Reenqueued[Job[Any]]:
        """Enqueue a new job like an earlier one, which waits, runs, has ended or is dead, with some things changed.

        What is not given is as it was with the earlier one: arguments, queue, metadata and the options of its enqueue;
        of one of which only a result is kept, arguments, queue and metadata. One that was due later is due then. It is
        a job of its own: its attempts are counted anew, and it has no unique key unless `unique=` says so.

        The new one is there before the earlier one is touched: whatever dies in between, one of them is run, or both.

        Args:
            job_id: of the earlier one.
            call: the task called with all its arguments, checked by type checkers.
            arguments: instead of `call`, those that are to be others: by place, from 0, or by name. Where the task is
                known here, they are checked, and any goes by its name.
            task: the task, where it is not registered here by name.
            new_id: the new job's id; a fresh one by default.
            replace: take the earlier one away: one that waits ends as cancelled, unless a worker has it by then; a dead
                letter is deleted. A result stays.
            in_queue: where the earlier one is, if that is a queue nobody serves.
            durable: as for `enqueue`.
            options: as for `enqueue`, instead of the earlier one's.

        Raises:
            JobNotFound: nothing is kept of the earlier one.
            JobNotWaiting: it runs, and is to be replaced.
            Undecodable: what is kept of it cannot be read here.
            ArgumentMismatch, ConfigurationError: the task does not take these arguments, or an option makes no sense.
            RedisUnavailable: see `enqueue`; the earlier one is as it was.
        """
        from producer.earlier import find_earlier  # noqa: PLC0415 - most programs enqueue nothing again

        check_id_from_elsewhere("job_id", job_id)
        if in_queue is not None:
            check_id_from_elsewhere("in_queue", in_queue)
        if new_id == job_id:
            raise ConfigurationError(f"new_id={new_id!r}: the new job is another one, and needs an id of its own")
        if call is not None and (arguments is not None or task is not None):
            raise ConfigurationError("give call=, or arguments= and task=")
        earlier = await find_earlier(self, job_id, in_queue)
        if replace and earlier.state is JobState.RUNNING:
            raise JobNotWaiting(f"job {job_id} cannot be replaced: a worker has it", job_id=job_id)
        if call is not None and call.name != earlier.task:
            raise ConfigurationError(f"call={call!r}: job {job_id} is of the task {earlier.task!r}")
        made = earlier.call(arguments, task) if call is None else call
        job = await self._enqueue_seen(made, earlier.options(options, made), new_id, durable)
        replaced = replace and job.is_new and await _take_away(self, earlier)
        return Reenqueued(job, earlier.state, replaced)


async def _take_away(producer: Open, earlier: Earlier) -> bool:
    """End a job that waits, or delete its dead letter; return whether there was one."""
    from producer.cancelled import cancelled_result  # noqa: PLC0415 - as above

    client, otherwise = producer.store.client, "the new job is there; the earlier one may be, too"
    job_id, payload = earlier.job_id, earlier.payload
    replaced = False
    if payload is not None:
        wish = Abort(job_id, cancelled_result(producer.reading, job_id, earlier.queue, payload), payload)
        asked = ControlStore(client).abort(
            earlier.queue, [wish], keep_ms=producer.keep_cancelled_ms, spares_running=True
        )
        (answer,) = await producer.answers.of(asked, f"the end of job {job_id}", otherwise=otherwise)
        replaced = answer == "cancelled"
    elif earlier.is_dead:
        asked_dead = DeadStore(client).delete([job_id])
        replaced = await producer.answers.of(asked_dead, f"the end of job {job_id}", otherwise=otherwise) == 1
    return replaced


class _Openable(Protocol):
    """What is needed of a blocking producer."""

    def _open(self) -> _Opened: ...

    def _handle(self, job: Job[R]) -> BlockingJob[R]: ...


class BlockingEditing:
    """What `BlockingProducer` has this method from."""

    @overload
    def reenqueue(
        self: _Openable,
        job_id: str,
        *,
        call: Call[R],
        new_id: str | None = None,
        replace: bool = False,
        in_queue: str | None = None,
        durable: bool | None = None,
        **options: Unpack[EnqueueArguments],
    ) -> Reenqueued[BlockingJob[R]]: ...

    @overload
    def reenqueue(
        self: _Openable,
        job_id: str,
        *,
        task: Task[..., R],
        arguments: Mapping[int | str, Any] | None = None,
        new_id: str | None = None,
        replace: bool = False,
        in_queue: str | None = None,
        durable: bool | None = None,
        **options: Unpack[EnqueueArguments],
    ) -> Reenqueued[BlockingJob[R]]: ...

    @overload
    def reenqueue(
        self: _Openable,
        job_id: str,
        *,
        arguments: Mapping[int | str, Any] | None = None,
        new_id: str | None = None,
        replace: bool = False,
        in_queue: str | None = None,
        durable: bool | None = None,
        **options: Unpack[EnqueueArguments],
    ) -> Reenqueued[BlockingJob[Any]]: ...

    def reenqueue(self: _Openable, job_id: str, **given: Any) -> Reenqueued[BlockingJob[Any]]:
        """Enqueue a new job like an earlier one, with some things changed; see `Producer.reenqueue`."""
        background, producer = self._open()
        done: Reenqueued[Job[Any]] = background.run(producer.reenqueue(job_id, **given))
        return Reenqueued(self._handle(done.job), done.earlier, done.replaced)
