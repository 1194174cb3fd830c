"""Schedules: a call and the times at which it is enqueued, however many workers there are.

    @cron("0 6 * * mon-fri", timezone="Europe/Berlin")
    @task
    async def send_reports(ctx: Context) -> None: ...

    schedule("reports-north", send_region("north"), cron("30 6 * * *", missed="all"))

Owns what is declared in code: `cron` and `every` make a `Timetable`, which decorates a task or is given to `schedule`,
and to `producer.schedules.add`. Knows no Redis: what is stored stands in schedule_records.py, who decides that a tick
is due in redis/lua/tick.lua. docs/schedules.md tells it to users.
"""

from __future__ import annotations

import functools
import random
import re
import zoneinfo
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from common.cron_expression import CronExpression, parse_cron
from common.durations import as_duration
from common.errors import ConfigurationError
from common.tasks import Call, Task
from common.wall_clock import next_instant

__all__ = [
    "GRACE_MS",
    "MOST_MISSED",
    "Missed",
    "Schedule",
    "Timetable",
    "check_name",
    "cron",
    "every",
    "schedule",
]

NeedsNothing = TypeVar("NeedsNothing", bound=Callable[[], Call[Any]])
"""A task that may be called without arguments; type checkers refuse the others."""

Missed = Literal["skip", "once", "all"]
"""What becomes of ticks nobody was there for: none of them runs, the latest one does, all do."""

MOST_MISSED = 100
"""Missed ticks that `missed="all"` runs, the latest ones: a fleet that was away for a year is not buried."""

GRACE_MS = 60_000
"""A tick found within a minute of its time counts as met by `missed="skip"`: workers restart, and servers do."""

_LONGEST = 365 * 24 * 3600.0
_LONGEST_JITTER = 24 * 3600.0
_FIRST_LOOK_MS = 60_000
_NAME = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]{1,200}")


@dataclass(frozen=True, slots=True)
class Timetable:
    """When a schedule ticks, and what becomes of ticks that were missed. `cron` and `every` make one.

    As a decorator above `@task` it schedules that task, called without arguments, under the task's own name.

    Attributes:
        expression: for `cron`.
        interval_ms: for `every`.
        timezone: name of the zone whose clock `expression` is read on.
        missed: see `Missed`.
        jitter: most seconds by which a run is put off, at random.
        overlap: run a tick though the job of the one before has not ended yet.
    """

    expression: CronExpression | None = None
    interval_ms: int = 0
    timezone: str = "UTC"
    missed: Missed = "once"
    jitter: float = 0.0
    overlap: bool = True

    def __post_init__(self) -> None:
        if self.missed not in get_args(Missed):
            raise ConfigurationError(f"missed={self.missed!r}: give 'skip', 'once' or 'all'")
        if not 0 <= self.jitter <= _LONGEST_JITTER:
            raise ConfigurationError(f"jitter={self.jitter!r}: give seconds, or a timedelta, from zero to a day")
        if self.interval_ms and self.jitter * 1000 >= self.interval_ms:
            raise ConfigurationError(f"jitter={self.jitter:g} is not below the interval of {self.interval_ms / 1000:g}")
        if self.missed == "all" and not self.overlap:
            raise ConfigurationError(
                "missed='all' starts all missed runs together, overlap=False one at a time: give one of the two"
            )

    def __str__(self) -> str:
        """Say when, as one would write it: `*/5 * * * *`, `every 30s`."""
        return str(self.expression) if self.expression is not None else f"every {as_duration(self.interval_ms / 1000)}"

    def __call__(self, task: NeedsNothing) -> NeedsNothing:
        """Schedule a task under its own name; as a decorator, above `@task`.

        Raises:
            ConfigurationError: it is no task, needs arguments, or is scheduled under that name already.
        """
        if not isinstance(task, Task):
            raise ConfigurationError(
                f"@cron and @every stand above @task; {getattr(task, '__qualname__', task)!r} is no task yet"
            )
        try:
            call = task()
        except TypeError as error:
            raise ConfigurationError(
                f"{error}: it cannot be scheduled without arguments; name the schedule, and give it a call, "
                f"as in schedule('{task.name}-…', {task.name}(…), cron('…'))"
            ) from None
        _declare(Schedule(task.name, call, self), task)
        return task

    def next_after(self, moment_ms: int) -> int | None:
        """Return the first tick after a moment, both in Unix ms; None if none ever comes."""
        if self.expression is not None:
            return next_instant(self.expression, zone_of(self.timezone), moment_ms)
        return (moment_ms // self.interval_ms + 1) * self.interval_ms

    def upcoming(self, moment_ms: int) -> Iterator[int]:
        """Yield the ticks after a moment, without end as a rule."""
        tick = self.next_after(moment_ms)
        while tick is not None:
            yield tick
            tick = self.next_after(tick)

    def latest(self, after_ms: int, until_ms: int, most: int) -> list[int]:
        """Return the ticks in (after, until], in order; of more than `most`, the latest."""
        look = _FIRST_LOOK_MS
        while True:
            # From near the end backwards: a schedule that was away for a year has more ticks than can be gone through.
            start = max(after_ms, until_ms - look)
            found: deque[int] = deque(maxlen=most)
            for tick in self.upcoming(start):
                if tick > until_ms:
                    break
                found.append(tick)
            if len(found) == most or start == after_ms:
                return list(found)
            look *= 4

    def delay_ms(self) -> int:
        """Draw by how much one run is put off."""
        return round(random.uniform(0, self.jitter * 1000))  # noqa: S311 - spreads load, keeps no secret


class Schedule(NamedTuple):
    """One schedule as the code declares it.

    Attributes:
        name: what it is known by in the whole fleet, and across deployments.
        queue: where its jobs go; None is the task's own queue, or else the first of the worker that declares it.
    """

    name: str
    call: Call[Any]
    timetable: Timetable
    queue: str | None = None


def cron(
    expression: str,
    *,
    timezone: str | zoneinfo.ZoneInfo = "UTC",
    missed: Missed = "once",
    jitter: float | timedelta = 0,
    overlap: bool = True,
) -> Timetable:
    """Return the times that a cron expression names.

    Args:
        expression: five fields (`*/5 * * * *`), six with seconds in front, or `@daily` and the like; names, ranges,
            steps, lists, `L` and `fri#2` are understood. docs/schedules.md has the whole grammar.
        timezone: whose clock it is read on, such as `Europe/Berlin`. A time of day that the clock skips is at the end
            of the gap, of one that it shows twice the first is meant; an expression whose hour starts with `*` follows
            the time that passes.
        missed: of ticks that came while no worker was there, "once" runs the latest, "skip" none (but for a tick
            less than a minute old), "all" each, the latest hundred at most.
        jitter: put each run off by up to so many seconds, at random.
        overlap: False leaves a tick out while the job of the one before has not ended.

    Raises:
        ConfigurationError: the expression is none, or an option makes no sense.
    """
    if not isinstance(expression, str):
        raise ConfigurationError(f"cron({expression!r}): give an expression as text, such as '*/5 * * * *'")
    name = timezone.key if isinstance(timezone, zoneinfo.ZoneInfo) else timezone
    zone_of(name)
    return Timetable(parse_cron(expression), 0, name, missed, _seconds("jitter", jitter), overlap)


def every(
    interval: float | timedelta,
    *,
    missed: Missed = "once",
    jitter: float | timedelta = 0,
    overlap: bool = True,
) -> Timetable:
    """Return times an interval apart: its multiples since 1970, so that `every(300)` ticks at :00, :05, :10 and so on.

    Args:
        interval: seconds, from 1 to a year.
        missed: as for `cron`.
        jitter: as for `cron`.
        overlap: as for `cron`.

    Raises:
        ConfigurationError: an option makes no sense.
    """
    seconds = _seconds("interval", interval)
    if not 1 <= seconds <= _LONGEST:
        raise ConfigurationError(f"every({interval!r}): give seconds, or a timedelta, from one second to a year")
    return Timetable(None, round(seconds * 1000), "UTC", missed, _seconds("jitter", jitter), overlap)


def schedule(name: str, call: Call[Any], when: Timetable, *, queue: str | None = None) -> Schedule:
    """Declare a schedule of a call: `schedule("reports-north", send_region("north"), cron("30 6 * * *"))`.

    Stands beside the task, at the top level of a module: the workers that run the task then know of it.

    Args:
        name: what it is known by in the whole fleet. Its last and next run, and a pause, hold on to this name.
        call: a task called with its arguments.
        when: from `cron` or `every`.
        queue: where its jobs go, instead of the task's own queue.

    Raises:
        ConfigurationError: the name cannot be one or is taken, or the call is by name, so that no task is there.
    """
    if not isinstance(call, Call):
        raise ConfigurationError(
            f"schedule({name!r}): give a task called with its arguments, got {type(call).__name__}"
        )
    if not isinstance(when, Timetable):
        raise ConfigurationError(f"schedule({name!r}): give cron(…) or every(…), got {type(when).__name__}")
    if call.task is None:
        raise ConfigurationError(
            f"schedule({name!r}): {call!r} is by name, and no worker would know that the schedule is its own. "
            "Call the task itself, or add the schedule with producer.schedules.add(…)"
        )
    if queue is not None and not _NAME.fullmatch(queue):
        raise ConfigurationError(f"schedule({name!r}): queue={queue!r}: give the name of a queue")
    made = Schedule(check_name(name), call, when, queue)
    _declare(made, call.task)
    return made


def check_name(name: object) -> str:
    """Return the name of a schedule.

    Raises:
        ConfigurationError: it cannot be one.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"a schedule called {name!r}: give text of 1 to 200 characters without spaces, control characters or "
            "lone surrogates"
        )
    return name


@functools.cache
def zone_of(name: str) -> tzinfo:
    """Return a time zone.

    Raises:
        ConfigurationError: there is none of that name here.
    """
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        pass
    hint = "names look like Europe/Berlin"
    if not zoneinfo.available_timezones():
        hint = "this machine has no time zones at all: install the package tzdata, of the system or from Python"
    raise ConfigurationError(f"timezone={name!r}: no such time zone; {hint}")


def as_moment(unix_ms: float) -> datetime:
    """Return a tick as a datetime in UTC."""
    return datetime.fromtimestamp(unix_ms / 1000, tz=UTC)


def _declare(made: Schedule, task: Task[Any, Any]) -> None:
    if any(other.name == made.name for other in task.schedules):
        raise ConfigurationError(
            f"two schedules are called {made.name!r}; give one a name of its own: schedule('…', {task.name}(…), …)"
        )
    task.schedules = (*task.schedules, made)


def _seconds(name: str, value: float | timedelta) -> float:
    seconds: object = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ConfigurationError(f"{name}={value!r}: give seconds as a number, or a timedelta")
    return float(seconds)
