"""What a cron expression means on a clock that is set forward in spring and back in autumn.

Owns the step from wall-clock times to instants (Unix ms), with two rules:

    A time of day happens once a day. One that the clock skips is at the end of the gap; of two of the same name the
    first is meant. `30 2 * * *` so runs every day of the year, and never twice.

    An expression whose hour starts with `*` follows the time that passes: `*/15 * * * *` runs every quarter of an
    hour that there is, four times in each of two hours of the same name, and not in one that is skipped.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from common.cron_expression import CronExpression

__all__ = ["next_instant"]

_SECOND = timedelta(seconds=1)
_NEAR = timedelta(days=2)
"""No zone changes its clock twice within so long, nor by as much as half of it."""


def next_instant(expression: CronExpression, zone: tzinfo, after_ms: int) -> int | None:
    """Return the first instant, in Unix ms, that the expression names after `after_ms`; None if there is none."""
    # Whole seconds: an instant after 12.3 s is one after 12 s, and 12 s is not after 12.0.
    after = datetime.fromtimestamp(after_ms // 1000, tz=UTC)
    find = _next_that_passes if expression.every_hour else _next_of_day
    try:
        found = find(expression, zone, after)
    except OverflowError:  # past the year 9999
        return None
    return None if found is None else round(found.timestamp()) * 1000


def _next_of_day(expression: CronExpression, zone: tzinfo, after: datetime) -> datetime | None:
    # The instants of ascending wall-clock times never descend, so the first one that is late enough is the next.
    wall = expression.next_time(_wall(after, zone))
    while wall is not None:
        instant = _instant(wall, zone)
        if instant > after:
            return instant
        wall = expression.next_time(wall + _SECOND)
    return None


def _next_that_passes(expression: CronExpression, zone: tzinfo, after: datetime) -> datetime | None:
    wall = expression.next_time(_wall(after, zone) + _SECOND)
    while wall is not None:
        offset = _offset(after, zone)
        found = wall.replace(tzinfo=UTC) - offset
        edge = min(found, after + _NEAR)
        if _offset(edge, zone) != offset:
            after = _change(after, edge, zone)
            wall = expression.next_time(_wall(after, zone))
        elif edge == found:
            return found
        else:
            # No clock names `wall`, or anything before it, until shortly before `found`.
            after = max(edge, found - _NEAR)
            wall = expression.next_time(_wall(after, zone) + _SECOND)
    return None


def _instant(wall: datetime, zone: tzinfo) -> datetime:
    """Return when a wall-clock time is: the first of two, the end of the gap for one that is skipped."""
    early = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall(early, zone) == wall:
        return early
    # In a gap, fold=0 reads the clock that was and fold=1 the one that will be: the change lies between.
    return _change(wall.replace(tzinfo=zone, fold=1).astimezone(UTC), early, zone)


def _change(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Return the first instant in (before, after] at which the zone's clock is not what it was at `before`."""
    old = _offset(before, zone)
    seconds_in, seconds_past = 0, round((after - before).total_seconds())
    while seconds_past - seconds_in > 1:
        middle = (seconds_in + seconds_past) // 2
        if _offset(before + middle * _SECOND, zone) == old:
            seconds_in = middle
        else:
            seconds_past = middle
    return before + seconds_past * _SECOND


def _wall(instant: datetime, zone: tzinfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(instant: datetime, zone: tzinfo) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None  # a zone of ours always has one
    return offset
