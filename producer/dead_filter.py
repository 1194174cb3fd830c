"""Which dead letters are meant, and the walk through those that fit.

Owns the filters and how they are matched. One step looks at some hundreds of letters, by two commands, so a walk
through a million keeps neither the server nor the event loop from anything else.
"""

from __future__ import annotations

import fnmatch
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import NamedTuple, TypedDict

from common.dead_letters import About, decode_about
from common.errors import ConfigurationError
from common.redis.dead_letters import MOST_AT_ONCE, DeadStore, Filed, Page
from producer.options import is_text

__all__ = ["DeadFilters", "Found", "Wanted", "checked_count", "walk"]


class DeadFilters(TypedDict, total=False):
    """What letters are chosen by; all that are given must fit.

    task: the task's name; `*` and `?` stand for any characters.
    error: the exception's class, with or without its module; `*` and `?` as well.
    queue: the queue the job was in.
    since, until: when it failed for good: a time, or a timedelta: so long ago, by the server's clock.
    """

    task: str | None
    error: str | None
    queue: str | None
    since: datetime | timedelta | None
    until: datetime | timedelta | None


class Wanted(NamedTuple):
    """Filters, checked."""

    task: str | None
    error: str | None
    queue: str | None
    since_ms: float | None
    until_ms: float | None

    @classmethod
    def of(
        cls,
        now_ms: int,
        *,
        task: str | None = None,
        error: str | None = None,
        queue: str | None = None,
        since: datetime | timedelta | None = None,
        until: datetime | timedelta | None = None,
    ) -> Wanted:
        """Return the filters with their times in Unix ms.

        Raises:
            ConfigurationError: one is not what it can be.
        """
        for name, given in (("task", task), ("error", error), ("queue", queue)):
            if given is not None and not is_text(given):
                raise ConfigurationError(f"{name}={given!r}: give text")
        return cls(task, error, queue, _unix_ms("since", since, now_ms), _unix_ms("until", until, now_ms))

    @property
    def looks_inside(self) -> bool:
        """Whether it depends on more than when a letter came."""
        return (self.task, self.error, self.queue) != (None, None, None)

    def fits(self, about: About) -> bool:
        """Whether a letter is one of those that are meant, its time aside."""
        return (
            (self.queue is None or about.queue == self.queue)
            and (self.task is None or fnmatch.fnmatchcase(about.task, self.task))
            and (self.error is None or _is_error(about.error, self.error))
        )


class Found(NamedTuple):
    """A letter that fits."""

    filed: Filed
    about: About


async def walk(
    store: DeadStore,
    wanted: Wanted,
    ask: Callable[[Awaitable[Page]], Awaitable[Page]],
    *,
    newest_first: bool,
    after: float | None = None,
    limit: int | None = None,
) -> AsyncIterator[list[Found]]:
    """Yield the letters that fit, in parts of some hundreds at the most, `limit` in all.

    Args:
        ask: awaits the server's answer.
        after: go on behind the letter of this score.
    """
    left = limit
    while left is None or left > 0:
        most = MOST_AT_ONCE if left is None or wanted.looks_inside else min(left, MOST_AT_ONCE)
        page = await ask(
            store.page(
                newest_first=newest_first, after=after, since_ms=wanted.since_ms, until_ms=wanted.until_ms, most=most
            )
        )
        found = [Found(filed, decode_about(filed.about)) for filed in page.letters]
        # What is over age and not yet swept away is as good as gone.
        fitting = [each for each in found if not 0 < each.about.until_ms < page.now_ms and wanted.fits(each.about)]
        if fitting:
            yield fitting if left is None else fitting[:left]
        if left is not None:
            left -= len(fitting)
        if len(page.letters) < most:
            return
        after = page.letters[-1].score


def checked_count(name: str, given: int) -> int:
    """Return a number of letters.

    Raises:
        ConfigurationError: it is less than one, or no number.
    """
    if not _is_count(given):
        raise ConfigurationError(f"{name}={given!r}: give a number, 1 or more")
    return given


def _is_count(given: object) -> bool:
    return isinstance(given, int) and given >= 1


def _is_error(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.rpartition(".")[2], pattern)


def _unix_ms(name: str, given: datetime | timedelta | None, now_ms: int) -> float | None:
    if given is None:
        return None
    if isinstance(given, timedelta):
        return now_ms - given.total_seconds() * 1000
    if getattr(given, "tzinfo", None) is None:
        raise ConfigurationError(f"{name}={given!r}: give a datetime with a time zone, or a timedelta: so long ago")
    return given.timestamp() * 1000
