"""An earlier job as the pattern of a new one: what is kept of it, and the call and the options that it makes.

Owns where that is looked for, and what of it goes into the new job. Adding that one, and taking the earlier away, is
editing.py's.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from common.codec import Extras, decode_job
from common.errors import ConfigurationError, JobNotFound, Undecodable
from common.fairness import lane_of
from common.jobs import JobInfo, JobState
from common.redis.dead_letters import DeadStore
from common.redis.layout import id_bytes
from common.redis.listing import ListingStore
from common.tasks import Call, Task, registered_tasks
from common.values import encode, to_plain
from producer.options import EnqueueArguments, EnqueueOptions

if TYPE_CHECKING:
    from common.codec import Reading
    from producer.answers import Answers
    from producer.editing import Open

__all__ = ["Earlier", "find_earlier"]

T = TypeVar("T")


class Earlier(NamedTuple):
    """A job that is there, or was.

    Attributes:
        state: where it stands.
        is_dead: whether a dead letter of it is kept.
        payload: of one that has not ended.
        extras: what its enqueue asked for; None where that is not kept, as of one that has a result alone.
        due_at: of one that is due later.
        expires: seconds until it is not to be started any more; of one that waits.
    """

    job_id: str
    queue: str
    state: JobState
    is_dead: bool
    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    payload: bytes | None = None
    extras: Extras | None = None
    metadata: Mapping[str, Any] | None = None
    due_at: datetime | None = None
    expires: float | None = None

    def call(self, arguments: Mapping[int | str, Any] | None, task: Task[..., Any] | None) -> Call[Any]:
        """Return the call of a new job: this one's, with these arguments instead of its own.

        Args:
            arguments: values by place, from 0, or by name.
            task: the task, if it is known; its arguments are checked then.

        Raises:
            ConfigurationError: there is no such argument, or it is another task.
            ArgumentMismatch: the task does not take these arguments.
        """
        task = task if task is not None else registered_tasks().get(self.task)
        if task is not None and task.name != self.task:
            raise ConfigurationError(f"job {self.job_id} is of the task {self.task!r}, not {task.name!r}")
        args, kwargs = list(self.args), dict(self.kwargs)
        for key, value in (arguments or {}).items():
            place = key if isinstance(key, int) else self._place_of(key, task)
            if isinstance(place, str):
                kwargs[place] = value
            elif isinstance(key, bool) or not 0 <= place < len(args):
                raise ConfigurationError(
                    f"arguments={{{key!r}: …}}: job {self.job_id} has {len(args)} arguments by place, from 0"
                )
            else:
                args[place] = value
        made: Call[Any] = Call(self.task, *args, **kwargs)
        if task is not None:
            task.arguments.read(encode(args, what="arguments"), encode(kwargs, what="keyword arguments"))
            made.task = task
        return made

    def options(self, given: EnqueueArguments, call: Call[Any]) -> EnqueueOptions:
        """Return what the enqueue of a new job asks for: what is given, else as this one's did."""
        extras = self.extras or Extras()
        asked: dict[str, Any] = {
            "queue": self.queue,
            "metadata": dict(self.metadata) if self.metadata else None,
            "timeout": extras.timeout,
            "soft_timeout": extras.soft,
            "max_attempts": extras.tries,
            "priority": extras.prio,
            "limit_key": extras.limit_key,
            "limit_cost": extras.limit_cost,
            "unique": False,
        }
        wanted = {name: value for name, value in given.items() if value is not None}
        if not wanted.keys() & {"delay", "at"}:
            asked["at"] = self.due_at
        if wanted.get("unique") is None and "unique_key" in wanted:
            del asked["unique"]
        options = EnqueueOptions.of(EnqueueArguments(**asked | wanted))  # type: ignore[typeddict-item]  # as `given` has it
        due = max(options.first_due, time.time())
        if options.deadline is None and extras.end is not None and extras.end / 1000 > due:
            options = dataclasses.replace(options, deadline=datetime.fromtimestamp(extras.end / 1000, tz=UTC))
        if options.expires is None and self.expires is not None and self.expires > due - time.time():
            options = dataclasses.replace(options, expires=self.expires)
        return options if options.fair_key is not None else dataclasses.replace(options, lane=self._lane(call))

    def _place_of(self, name: str, task: Task[..., Any] | None) -> int | str:
        """Return where an argument was passed that is known by name: its place, or its name."""
        if name in self.kwargs:
            return name
        if task is None:
            raise ConfigurationError(
                f"arguments={{{name!r}: …}}: job {self.job_id} was passed none by that name, and the code of "
                f"{self.task!r} is not here to tell its place; give the place, from 0"
            )
        parameters = list(task.signature.parameters.values())[1:]
        names = [parameter.name for parameter in parameters]
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if name not in names and not takes_any:
            raise ConfigurationError(
                f"arguments={{{name!r}: …}}: the task {self.task!r} has no argument of that name; it takes: "
                f"{', '.join(names) or 'none'}"
            )
        place = names.index(name) if name in names else len(self.args)
        by_place = place < len(self.args) and parameters[place].kind is not parameters[place].KEYWORD_ONLY
        return place if by_place else name

    def _lane(self, call: Call[Any]) -> str:
        """Return the lane of a new job: of the tenant that the task names; else this one's."""
        lane = (self.extras.lane if self.extras else None) or ""
        fair = call.task.fair if call.task is not None else None
        was_named = fair is not None and lane_of(fair.of(self.args, self.kwargs)) == lane
        return "" if was_named else lane


async def find_earlier(producer: Open, job_id: str, in_queue: str | None) -> Earlier:
    """Return a job as the pattern of a new one.

    Raises:
        JobNotFound: nothing is kept of it.
        Undecodable: what is kept of it cannot be read here.
    """
    answers, reading = producer.answers, producer.reading

    def ask(call: Awaitable[T]) -> Awaitable[T]:
        return answers.of(call, f"what is kept of job {job_id}")

    inspector, client = producer.inspector, producer.store.client
    queues = [in_queue] if in_queue else await ask(inspector.queues_in_use(producer.settings.queues))
    store, raw = ListingStore(client, reading), id_bytes(job_id)
    queue = await ask(store.where(raw, queues))
    letter = await ask(DeadStore(client).get(job_id))
    if queue is not None:
        info = await ask(inspector.job(job_id, queue))
        payload = await ask(producer.store.payload(job_id))
        if payload is not None:
            left = await ask(store.expires_ms(raw))
            return _live(info, queue, payload, left, reading, is_dead=letter is not None)
    if letter is not None:
        info = JobInfo(job_id=job_id, state=JobState.FAILED)
        return _live(info, letter.queue, letter.payload, -1, reading, is_dead=True)._replace(payload=None)
    return await _ended(producer, job_id, answers, ask(inspector.results([job_id])))


def _live(info: JobInfo, queue: str, payload: bytes, left_ms: int, reading: Reading, *, is_dead: bool) -> Earlier:
    job = decode_job(payload, reading, info.job_id, queue)
    args, kwargs = job.as_objects()
    is_later = info.state is JobState.SCHEDULED and info.waits_for is None
    return Earlier(
        info.job_id,
        queue,
        info.state,
        is_dead,
        job.task,
        args,
        kwargs,
        payload,
        job.extras,
        job.extras.meta if job.extras else None,
        info.due_at if is_later else None,
        left_ms / 1000 if left_ms > 0 else None,
    )


async def _ended(producer: Open, job_id: str, answers: Answers, asked: Awaitable[list[Any]]) -> Earlier:
    (result,) = await asked
    if result is None:
        raise JobNotFound(
            f"there is nothing left of job {job_id} to make another one of: it is in none of the queues looked in, and "
            "neither a dead letter nor a result of it is kept",
            job_id=job_id,
        )
    args, kwargs = result.args, result.kwargs
    if result.form == "msgpack":
        args, kwargs = to_plain(args), to_plain(kwargs)
    if not isinstance(kwargs, dict):
        raise Undecodable(f"the result of job {job_id} does not tell its arguments")
    state = await answers.of(producer.inspector.state(job_id, result.queue), "a state")
    return Earlier(job_id, result.queue, state, False, result.task, tuple(args), kwargs, metadata=result.metadata)
