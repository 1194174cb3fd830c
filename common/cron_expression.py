"""Cron expressions: the grammar, and which wall-clock times an expression names.

Owns reading, complaining, and the search for the next wall-clock time. Knows no time zone: what a time means that a
clock skips or shows twice is wall_clock.py's.

    second  minute  hour  day-of-month  month  day-of-week          the second may be left out: 0
    0-59    0-59    0-23  1-31          1-12   0-7 (0, 7: Sunday)   jan-dec and sun-sat, in any case

    *  a  a-b  */n  a-b/n  a/n  a,b     in every field; ? for * in the two of days
    L  L-n                              day of month: the last day, the n-th before it
    friL  fri#2                         day of week: the last Friday of the month, the second one
    @yearly @monthly @weekly @daily @midnight @hourly

Where both kinds of day are restricted, a day that fits either of them is meant, as everywhere since 1979.
"""

from __future__ import annotations

import calendar
import functools
import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from common.errors import ConfigurationError

__all__ = ["CronExpression", "parse_cron"]

_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
_WEEKDAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_LONGEST_SEARCH = 40
"""Years. The rarest day there is, a 29th of February on one weekday, comes every 40 years at the most."""

_ITEM = re.compile(r"(?P<first>\*|[a-z0-9]+)(?:-(?P<last>[a-z0-9]+))?(?:/(?P<step>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of an expression: how it is called, what it may hold."""

    title: str
    low: int
    high: int
    names: Mapping[str, int]

    @property
    def takes(self) -> str:
        numbers = f"{self.low}-{self.high}"
        if not self.names:
            return numbers
        known = list(self.names)
        sunday = " (0 and 7 are Sunday)" if self.high == 7 else ""
        return f"{numbers}{sunday} or {known[0]}-{known[-1]}"


_SECOND = _Field("second", 0, 59, {})
_MINUTE = _Field("minute", 0, 59, {})
_HOUR = _Field("hour", 0, 23, {})
_DAY = _Field("day of month", 1, 31, {})
_MONTH = _Field("month", 1, 12, _MONTHS)
_WEEKDAY = _Field("day of week", 0, 7, _WEEKDAYS)
_FIELDS = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)


@dataclass(frozen=True, slots=True)
class CronExpression:
    """What an expression names. `parse_cron` makes one.

    Attributes:
        text: as it was written.
        seconds, minutes, hours: in ascending order.
        days, weekdays: numbers; Sunday is 0.
        from_last: days before the last one of the month, 0 being the last.
        numbered: (weekday, n): the n-th one of the month, or, with n = 0, the last.
        either_day: both kinds of day are restricted, and one of them is enough.
        every_hour: the hour starts with a `*`: it follows the time that passes, not the time of day.
    """

    text: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    from_last: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    numbered: frozenset[tuple[int, int]]
    either_day: bool
    every_hour: bool

    def __str__(self) -> str:
        return self.text

    def names_day(self, day: date) -> bool:
        """Whether it names any time of this day."""
        if day.month not in self.months:
            return False
        last = calendar.monthrange(day.year, day.month)[1]
        of_month = day.day in self.days or (last - day.day) in self.from_last
        weekday = day.isoweekday() % 7
        of_week = (
            weekday in self.weekdays
            or (weekday, (day.day - 1) // 7 + 1) in self.numbered
            or (day.day + 7 > last and (weekday, 0) in self.numbered)
        )
        return (of_month or of_week) if self.either_day else (of_month and of_week)

    def next_time(self, start: datetime) -> datetime | None:
        """Return the first time it names at `start` or later; None if there is none for forty years.

        Args:
            start: a wall-clock time, without a zone. So is what is returned.
        """
        if start.microsecond:
            start = start.replace(microsecond=0) + timedelta(seconds=1)
        if self.names_day(start.date()):
            found = self._time_of_day(start.hour, start.minute, start.second)
            if found is not None:
                return datetime.combine(start, found)
        day = self._next_day(start.date())
        return None if day is None else datetime.combine(day, time(self.hours[0], self.minutes[0], self.seconds[0]))

    def _time_of_day(self, hour: int, minute: int, second: int) -> time | None:
        for h in self.hours[bisect_left(self.hours, hour) :]:
            if h > hour:
                return time(h, self.minutes[0], self.seconds[0])
            for m in self.minutes[bisect_left(self.minutes, minute) :]:
                if m > minute:
                    return time(h, m, self.seconds[0])
                later = bisect_left(self.seconds, second)
                if later < len(self.seconds):
                    return time(h, m, self.seconds[later])
        return None

    def _next_day(self, day: date) -> date | None:
        final = min(day.year + _LONGEST_SEARCH, 9998)
        while day.year <= final:
            if day.month in self.months:
                day += timedelta(days=1)
                if self.names_day(day):
                    return day
            else:
                day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
                if self.names_day(day):
                    return day
        return None


@functools.lru_cache(maxsize=1024)
def parse_cron(text: str) -> CronExpression:
    """Return what a cron expression of five fields, or of six with seconds in front, names.

    Raises:
        ConfigurationError: it is none, or names no day there ever is; the message says which part and what to write.
    """
    fields = _split(text)
    second, minute, hour, day, month, weekday = fields
    days, from_last = _read_days(text, day)
    weekdays, numbered = _read_weekdays(text, weekday)
    found = CronExpression(
        text=" ".join(text.split()),
        seconds=tuple(sorted(_read(text, _SECOND, second))),
        minutes=tuple(sorted(_read(text, _MINUTE, minute))),
        hours=tuple(sorted(_read(text, _HOUR, hour))),
        days=frozenset(days),
        from_last=frozenset(from_last),
        months=frozenset(_read(text, _MONTH, month)),
        weekdays=frozenset(weekdays),
        numbered=frozenset(numbered),
        either_day=not day.startswith(("*", "?")) and not weekday.startswith(("*", "?")),
        every_hour=hour.startswith("*"),
    )
    if found.next_time(datetime(2000, 1, 1)) is None:  # noqa: DTZ001 - a wall-clock time
        raise _wrong(text, "there is never such a day: no month it names is that long")
    return found


def _split(text: str) -> list[str]:
    """Return six fields in small letters."""
    plain = text.strip().lower()
    if plain.startswith("@"):
        if plain == "@reboot":
            raise _wrong(text, "a fleet has no reboot; have on_startup do it, or enqueue it where you deploy")
        if plain not in _NICKNAMES:
            raise _wrong(text, f"no such name; there are {', '.join(_NICKNAMES)}")
        plain = _NICKNAMES[plain]
    fields = plain.split()
    if len(fields) == 5:
        return ["0", *fields]
    if len(fields) != 6:
        count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        raise _wrong(
            text, f"it has {count}; give five (minute hour day-of-month month day-of-week), or six with seconds first"
        )
    return fields


def _read_days(text: str, given: str) -> tuple[set[int], set[int]]:
    """Return days of the month, and days before its last."""
    if given == "?":
        return set(range(1, 32)), set()
    days: set[int] = set()
    from_last: set[int] = set()
    for part in given.split(","):
        last = re.fullmatch(r"l(?:-([0-9]+))?", part)
        if last is not None:
            before = int(last[1] or 0)
            if before > 30:
                raise _wrong(text, f"{part.upper()!r} in the day of month: no month has a day so far before its last")
            from_last.add(before)
        elif re.fullmatch(r"(l|[0-9]+)w", part):
            raise _wrong(text, f"{part.upper()!r} in the day of month: the nearest working day (W) is not supported")
        else:
            days |= _read_item(text, _DAY, part)
    return days, from_last


def _read_weekdays(text: str, given: str) -> tuple[set[int], set[tuple[int, int]]]:
    """Return weekdays, and those with a number within the month (0 is the last)."""
    if given == "?":
        return set(range(7)), set()
    weekdays: set[int] = set()
    numbered: set[tuple[int, int]] = set()
    for part in given.split(","):
        special = re.fullmatch(r"([a-z0-9]+?)(?:#([0-9]+)|(l))", part)
        if special is None:
            weekdays |= {number % 7 for number in _read_item(text, _WEEKDAY, part)}
            continue
        weekday = _number(text, _WEEKDAY, special[1], part) % 7
        number = int(special[2] or 0)
        if not special[3] and not 1 <= number <= 5:
            raise _wrong(text, f"{part!r} in the day of week: a month has one to five of them, {special[1]}#1 to #5")
        numbered.add((weekday, number))
    return weekdays, numbered


def _read(text: str, field: _Field, given: str) -> set[int]:
    found: set[int] = set()
    for part in given.split(","):
        found |= _read_item(text, field, part)
    return found


def _read_item(text: str, field: _Field, part: str) -> set[int]:
    item = _ITEM.fullmatch(part)
    if item is None or (item["first"] == "*" and item["last"]):
        what = repr(part) if part else "an empty part between commas"
        raise _wrong(text, f"{what} in the {field.title}: write *, a, a-b, */n, a-b/n or a list of these with commas")
    high = 6 if field is _WEEKDAY else field.high
    if item["first"] == "*":
        first, last = field.low, high
    else:
        first = _number(text, field, item["first"], part)
        # a/n goes on to the field's end; a alone does not.
        last = _number(text, field, item["last"], part) if item["last"] else (high if item["step"] else first)
    if last < first and field is _WEEKDAY and last == 0:
        last = 7  # sat-sun
    if last < first:
        turned = f"{first}-{field.high},{field.low}-{last}" if field is not _WEEKDAY else f"{first}-6,0-{last}"
        raise _wrong(text, f"{part!r} in the {field.title} goes backwards: write {turned}")
    return set(range(first, last + 1, _step(text, field, part, item["step"])))


def _step(text: str, field: _Field, part: str, given: str | None) -> int:
    if given is None:
        return 1
    step = int(given)
    if not 0 < step <= field.high:
        raise _wrong(
            text,
            f"{part!r} in the {field.title}: a step counts within the field, from 1 to {field.high}; "
            "for an interval of any length use every(…) instead of cron(…)",
        )
    return step


def _number(text: str, field: _Field, given: str, part: str) -> int:
    number = field.names.get(given)
    if number is None:
        number = int(given) if given.isdecimal() and len(given) < 4 else -1
    if not field.low <= number <= field.high:
        shown = repr(given) if given == part else f"{given!r} of {part!r}"
        raise _wrong(text, f"{shown} is no {field.title}: give {field.takes}")
    return number


def _wrong(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"cron {text[:80]!r}: {why}")
