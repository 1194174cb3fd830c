"""Schedules in Redis, as typed methods: declaring, adding, changing and ticking, one script each; and one read of all.

Owns the layout of these scripts' arguments and replies, and of the small records in the hashes. What the bytes of a
schedule mean is common/schedule_records.py's; a worker's part is workers/scheduler.py's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import redis.asyncio

from common.redis import keys
from common.redis.records import Rank
from common.redis.scripts import Script
from common.redis.wire import Argument
from common.schedules import GRACE_MS, Missed
from common.uniqueness import UniqueTick

__all__ = [
    "BELIEVED_MS",
    "DECLARE_EVERY",
    "SCRIPTS",
    "Declaration",
    "Judged",
    "LastRun",
    "Overdue",
    "Plan",
    "PlannedTick",
    "ScheduleStore",
    "Seen",
    "Snapshot",
    "Ticked",
]

DECLARE_EVERY = 20.0
"""Seconds between a worker's declarations of the schedules in its code."""

_MOST_OVERDUE = 1000

BELIEVED_MS = 60_000
"""For how long a declaration is believed: three of them may fail before a schedule stands still."""

_FORGOTTEN_MS = 7 * 24 * 3600 * 1000
"""After so long a schedule that no code declares any more is removed, its last run too."""

TICK = Script("tick")
DECLARE = Script("declare")
ADD = Script("add_schedule")
REMOVE = Script("remove_schedule")
PAUSE = Script("pause_schedule")

SCRIPTS = (TICK, DECLARE, ADD, REMOVE, PAUSE)

_TICK_KEYS = (
    keys.SCHEDULES, keys.SCHEDULES_NEXT, keys.SCHEDULES_LAST, keys.SCHEDULES_DECLARED, keys.SCHEDULES_REVISION,
)  # fmt: skip
_KEYS = (*_TICK_KEYS, keys.SCHEDULES_PAUSED)

_ANY = "surrogateescape"
_SEEN = re.compile(r"([0-9a-f]+):(\d+):(\d+)")
_LAST = re.compile(r"(\d+) (\d+) (\d+) (.*)", re.DOTALL)


class Declaration(NamedTuple):
    """One schedule in the code of a worker.

    Attributes:
        digest: hexadecimal; tells this declaration from others of the same name.
        next_ms: its first tick from now on; None if none ever comes.
    """

    name: str
    digest: str
    record: bytes
    next_ms: int | None


class PlannedTick(NamedTuple):
    """A tick and the job it becomes; `delay_ms` after it is judged to be due."""

    tick_ms: int
    delay_ms: int
    job_id: str
    payload: bytes


class Plan(NamedTuple):
    """What a worker would do about one schedule, for the server to judge.

    Attributes:
        next_ms: its next tick, as far as the worker knows.
        ticks: in order; those that are due are run as `missed` says.
        following_ms: the tick after them; None if there is none.
        unique: the key of its jobs, and what keeps others of that key away; None where they are many.
        rank: what the turn of its jobs comes by, besides their time.
    """

    name: str
    queue: str
    next_ms: int
    missed: Missed
    overlap: bool
    ticks: Sequence[PlannedTick]
    following_ms: int | None
    unique: UniqueTick | None = None
    rank: Rank = Rank()


Word = Literal["ran", "passed", "busy", "held", "early", "taken", "orphan", "refused"]


class Judged(NamedTuple):
    """What became of a plan; the words are tick.lua's.

    Attributes:
        ran: the ticks that were enqueued.
        next_ms: the next tick in force; None if there is none.
        why: with "refused", what the server said.
    """

    word: Word
    ran: Sequence[PlannedTick]
    next_ms: int | None
    why: str


class Ticked(NamedTuple):
    """The answer to several plans; `judged` is None where the worker knew an old revision, and nothing was done."""

    now_ms: int
    judged: list[Judged] | None


class LastRun(NamedTuple):
    """The last run of a schedule: for which tick, when it was enqueued, how many there were, the job."""

    tick_ms: int
    at_ms: int
    runs: int
    job_id: str


class Seen(NamedTuple):
    """When live workers first and last declared one version of a schedule, Unix ms."""

    digest: str
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is stored on schedules, at one moment.

    Attributes:
        revision: None where there are none.
        records: by name, undecoded.
        next_ms, paused_ms: Unix ms by name.
        declared: by name; those added by hand are not in it.
    """

    now_ms: int = 0
    revision: bytes | None = None
    records: dict[str, bytes] = field(default_factory=dict)
    next_ms: dict[str, int] = field(default_factory=dict)
    paused_ms: dict[str, int] = field(default_factory=dict)
    last: dict[str, LastRun] = field(default_factory=dict)
    declared: dict[str, list[Seen]] = field(default_factory=dict)

    def live(self, name: str) -> list[Seen]:
        """Return the versions of a declared schedule that live workers have."""
        return [seen for seen in self.declared.get(name, ()) if seen.last_ms + BELIEVED_MS >= self.now_ms]


class Overdue(NamedTuple):
    """How many schedules there are, and how many of them should have ticked and have not.

    Attributes:
        longest_s: seconds since the tick that is overdue for longest; 0 where none is.
    """

    active: int
    paused: int
    overdue: int
    longest_s: float


class ScheduleStore:
    """The schedules of one server."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def overdue(self, after_ms: int) -> Overdue:
        """Return how many ticks are due for longer than this, of a thousand schedules at the most.

        Those that no live worker has in its code are left out: their code was taken away, and they go by themselves.
        """
        pipeline = self.client.pipeline(transaction=True)
        pipeline.time()
        pipeline.zcard(keys.SCHEDULES_NEXT)
        pipeline.zcard(keys.SCHEDULES_PAUSED)
        (seconds, micros), active, paused = await pipeline.execute()
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        latest = now_ms - after_ms
        due = await self.client.zrange(
            keys.SCHEDULES_NEXT, 0, latest, byscore=True, withscores=True, offset=0, num=_MOST_OVERDUE
        )
        if not due:
            return Overdue(active, paused, 0, 0.0)
        declared = await self.client.hmget(keys.SCHEDULES_DECLARED, [name for name, _ in due])  # type: ignore[misc]
        late = [
            score
            for (_, score), stored in zip(due, declared, strict=True)
            if stored is None or any(seen.last_ms + BELIEVED_MS >= now_ms for seen in _seen(stored))
        ]
        return Overdue(active, paused, len(late), max(0.0, (now_ms - min(late)) / 1000) if late else 0.0)

    async def load(self) -> Snapshot:
        """Return everything, as it is at one moment."""
        pipeline = self.client.pipeline(transaction=True)
        pipeline.time()
        pipeline.get(keys.SCHEDULES_REVISION)
        pipeline.hgetall(keys.SCHEDULES)
        pipeline.zrange(keys.SCHEDULES_NEXT, 0, -1, withscores=True)
        pipeline.zrange(keys.SCHEDULES_PAUSED, 0, -1, withscores=True)
        pipeline.hgetall(keys.SCHEDULES_LAST)
        pipeline.hgetall(keys.SCHEDULES_DECLARED)
        (seconds, micros), revision, records, next_ticks, paused, last, declared = await pipeline.execute()
        return Snapshot(
            now_ms=int(seconds) * 1000 + int(micros) // 1000,
            revision=revision,
            records={_text(name): record for name, record in records.items()},
            next_ms={_text(name): int(score) for name, score in next_ticks},
            paused_ms={_text(name): int(score) for name, score in paused},
            last={_text(name): run for name, text in last.items() if (run := _last_run(text)) is not None},
            declared={_text(name): _seen(text) for name, text in declared.items()},
        )

    async def declare(self, declarations: Sequence[Declaration]) -> list[Literal["current", "older", "taken"]]:
        """Say what the code of this worker declares; return for each whether that is what is in force."""
        arguments: list[Argument] = [BELIEVED_MS, _FORGOTTEN_MS]
        for declaration in declarations:
            arguments += (_bytes(declaration.name), declaration.digest, declaration.record, _tick(declaration.next_ms))
        return [word.decode() for word in await DECLARE(self.client, _KEYS, arguments)]

    async def tick(self, revision: bytes, plans: Sequence[Plan], *, now_ms: int) -> Ticked:
        """Have the server judge which ticks are due; it notes and enqueues them in the same step.

        Args:
            revision: of what the plans are based on.
            now_ms: the server's time as the plans take it; where it is ahead of that, nothing is done.
        """
        queues = list(dict.fromkeys(plan.queue for plan in plans))
        arguments: list[Argument] = [revision, now_ms, BELIEVED_MS, GRACE_MS]
        for plan in plans:
            arguments += (
                _bytes(plan.name), queues.index(plan.queue), plan.next_ms, plan.missed, int(plan.overlap),
                *(plan.unique or ("", "", 0)), *plan.rank,
                _tick(plan.following_ms), len(plan.ticks),
            )  # fmt: skip
            for tick in plan.ticks:
                arguments += (tick.tick_ms, tick.delay_ms, _bytes(tick.job_id), tick.payload)
        server_ms, current, *judged = await TICK(self.client, (*_TICK_KEYS, *queues), arguments)
        if not current:
            return Ticked(server_ms, None)
        answers = []
        for plan, at in zip(plans, range(0, len(judged), 5), strict=True):
            word, first, ran, next_ms, why = judged[at : at + 5]
            answers.append(
                Judged(
                    word.decode(),
                    plan.ticks[first : first + ran],
                    next_ms if next_ms >= 0 else None,
                    why.decode(errors="replace"),
                )
            )
        return Ticked(server_ms, answers)

    async def add(
        self, name: str, record: bytes, next_ms: int | None, *, replace: bool
    ) -> Literal["added", "changed", "same", "exists", "declared"]:
        """Add a schedule, or change one that was added so; the words are add_schedule.lua's."""
        arguments = (_bytes(name), record, _tick(next_ms), int(replace), BELIEVED_MS)
        word: Literal["added", "changed", "same", "exists", "declared"]
        word = (await ADD(self.client, _KEYS, arguments)).decode()
        return word

    async def remove(self, name: str) -> Literal["removed", "missing", "declared"]:
        """Remove a schedule; the words are remove_schedule.lua's."""
        word: Literal["removed", "missing", "declared"]
        word = (await REMOVE(self.client, _KEYS, (_bytes(name), BELIEVED_MS))).decode()
        return word

    async def pause(self, name: str) -> Literal["missing", "same", "done"]:
        """Stop a schedule's ticks; the words are pause_schedule.lua's."""
        return await self._pause(name, "")

    async def resume(self, name: str, next_ms: int | None) -> Literal["missing", "same", "done"]:
        """Let a schedule's ticks go on, from this one."""
        return await self._pause(name, _tick(next_ms))

    async def _pause(self, name: str, first: Argument) -> Literal["missing", "same", "done"]:
        word: Literal["missing", "same", "done"]
        word = (await PAUSE(self.client, _KEYS, (_bytes(name), first))).decode()
        return word


def _tick(next_ms: int | None) -> int:
    return -1 if next_ms is None else next_ms


def _last_run(stored: bytes) -> LastRun | None:
    found = _LAST.fullmatch(_text(stored))
    return None if found is None else LastRun(int(found[1]), int(found[2]), int(found[3]), found[4])


def _seen(stored: bytes) -> list[Seen]:
    return [Seen(found[1], int(found[2]), int(found[3])) for found in _SEEN.finditer(_text(stored))]


def _text(raw: bytes) -> str:
    return raw.decode(errors=_ANY)


def _bytes(name: str) -> bytes:
    return name.encode(errors=_ANY)
