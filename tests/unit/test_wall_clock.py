"""Cron on clocks that are set forward and back, held against a model that looks at every minute there is."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.cron_expression import parse_cron
from common.wall_clock import next_instant


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def ticks(text: str, zone: str, start: str, count: int) -> list[str]:
    """Return the first ticks after `start` as local times with their offset, the minute and all before it."""
    at, found = ms(start), []
    while len(found) < count:
        at = next_instant(parse_cron(text), ZoneInfo(zone), at)
        found.append(datetime.fromtimestamp(at / 1000, tz=ZoneInfo(zone)).strftime("%d %H:%M%z"))
    return found


# Berlin: on 29 March 2026 the hour from 2 is skipped; on 25 October the hour from 2 is there twice.


def test_a_time_that_is_skipped_is_at_the_end_of_the_gap():
    found = ticks("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00Z", 3)
    assert found == ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]


def test_a_time_that_is_there_twice_is_the_first_of_them():
    found = ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00Z", 3)
    assert found == ["24 02:30+0200", "25 02:30+0200", "26 02:30+0100"]


def test_many_times_that_are_skipped_are_one_tick():
    found = ticks("*/20 2-3 * * *", "Europe/Berlin", "2026-03-29T00:30Z", 4)
    assert found == ["29 03:00+0200", "29 03:20+0200", "29 03:40+0200", "30 02:00+0200"]


def test_every_so_many_minutes_follows_the_time_that_passes():
    found = ticks("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00Z", 4)
    assert found == ["29 01:30+0100", "29 03:00+0200", "29 03:30+0200", "29 04:00+0200"]
    found = ticks("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:45Z", 6)
    assert found == ["25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100", "25 03:00+0100",
                     "25 03:30+0100"]  # fmt: skip


def test_hours_with_a_step_follow_it_too():
    assert ticks("0 */2 * * *", "Europe/Berlin", "2026-10-25T00:00Z", 2) == ["25 02:00+0100", "25 04:00+0100"]
    assert ticks("0 */2 * * *", "Europe/Berlin", "2026-03-28T23:30Z", 2) == ["29 04:00+0200", "29 06:00+0200"]


def test_midnight_itself_may_be_skipped_or_be_there_twice():
    assert ticks("@daily", "America/Havana", "2026-03-07T12:00Z", 2) == ["08 01:00-0400", "09 00:00-0400"]
    assert ticks("@daily", "America/Havana", "2026-10-31T12:00Z", 2) == ["01 00:00-0400", "02 00:00-0500"]


def test_a_clock_may_go_by_half_an_hour():
    assert ticks("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00Z", 2) == ["04 02:30+1100", "05 02:15+1100"]
    assert ticks("45 1 * * *", "Australia/Lord_Howe", "2026-04-03T20:00Z", 2) == ["05 01:45+1100", "06 01:45+1030"]


def test_a_whole_day_may_be_skipped():
    # Samoa had no 30 December 2011.
    assert ticks("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00Z", 3) == [
        "29 12:00-1000", "31 00:00+1400", "31 12:00+1400",
    ]  # fmt: skip
    assert ticks("0 */12 * * *", "Pacific/Apia", "2011-12-29T11:00Z", 3) == [
        "29 12:00-1000", "31 00:00+1400", "31 12:00+1400",
    ]  # fmt: skip


def test_a_rare_day_is_found_at_once():
    assert ticks("0 * 29 2 *", "Europe/Berlin", "2026-01-01T00:00Z", 2) == ["29 00:00+0100", "29 01:00+0100"]
    # The second pass of an hour whose day will not come again for a year.
    assert ticks("30 */23 24 10 *", "America/Havana", "2026-10-24T03:45Z", 2) == ["24 00:30-0400", "24 23:30-0400"]


def test_an_instant_between_two_seconds_is_before_the_second_of_them():
    expression = parse_cron("* * * * * *")
    assert next_instant(expression, UTC, 1_999) == 2_000
    assert next_instant(expression, UTC, 2_000) == 3_000


def test_a_day_that_comes_no_more_has_no_instant():
    assert next_instant(parse_cron("0 0 29 2 *"), UTC, ms("9997-01-01T00:00Z")) is None


MINUTE = timedelta(minutes=1)
CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00Z"), ("Europe/Berlin", "2026-10-25T01:00Z"),
    ("America/New_York", "2026-03-08T07:00Z"), ("America/New_York", "2026-11-01T06:00Z"),
    ("America/Havana", "2026-03-08T05:00Z"), ("America/Havana", "2026-11-01T05:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30Z"), ("Australia/Lord_Howe", "2026-04-04T15:00Z"),
    ("Africa/Casablanca", "2026-02-15T02:00Z"), ("Africa/Casablanca", "2026-03-22T02:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00Z"), ("Asia/Kathmandu", "2026-05-05T12:00Z"), ("UTC", "2026-05-05T12:00Z"),
]  # fmt: skip


def model(text: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """Return every tick in (start, end], by looking at every minute: of the day, or that passes."""
    expression = parse_cron(text)

    def named(wall: datetime) -> bool:
        return expression.next_time(wall) == wall

    found = set()
    if text.split()[1].startswith("*"):
        at = start
        while at <= end:
            if named(at.astimezone(zone).replace(tzinfo=None, fold=0)):
                found.add(at)
            at += MINUTE
    else:
        passing = {}  # the minutes there are, by their name; the first of each stays
        at = start - timedelta(days=2)
        while at <= end + timedelta(days=2):
            passing.setdefault(at.astimezone(zone).replace(tzinfo=None, fold=0), at)
            at += MINUTE
        wall, last = min(passing), max(passing)
        while wall <= last:
            if named(wall):
                # One that is not there is at the first minute after it that is.
                there = wall
                while there not in passing:
                    there += MINUTE
                found.add(passing[there])
            wall += MINUTE
    return sorted(at for at in found if start < at <= end)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(CHANGES),
    st.integers(-36 * 60, 24 * 60),
    st.sampled_from(["*", "*/7", "0", "15,45", "30", "59"]),
    st.sampled_from(["*", "*/2", "*/23", "0", "1", "2", "2-3", "0-2,23", "12"]),
    st.sampled_from(["* * *", "* * *", "*/2 * *", "? * sun", "L * *"]),
)
def test_the_ticks_of_three_days_are_those_of_the_model(change, minutes, minute, hour, days):
    name, moment = change
    zone = ZoneInfo(name)
    start = datetime.fromisoformat(moment) + minutes * MINUTE
    end = start + timedelta(days=3)
    text = f"{minute} {hour} {days}"
    found, at = [], round(start.timestamp()) * 1000
    while (at := next_instant(parse_cron(text), zone, at)) is not None and at <= end.timestamp() * 1000:
        found.append(datetime.fromtimestamp(at / 1000, tz=UTC))
    assert found == model(text, zone, start, end)


@given(
    st.sampled_from([name for name, _ in CHANGES]),
    st.datetimes(datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2035-01-01")),
    st.sampled_from(["0 2 * * *", "*/15 * * * *", "30 1 * * sun", "0 0 1 * *", "15 */3 * * *", "5 4 29 2 *"]),
)
def test_ticks_ascend_and_none_lies_between_two(name, start, text):
    zone, expression = ZoneInfo(name), parse_cron(text)
    at = round(start.timestamp()) * 1000
    first = next_instant(expression, zone, at)
    second = next_instant(expression, zone, first)
    assert at < first < second
    assert next_instant(expression, zone, first - 1000) == first
    assert next_instant(expression, zone, (first + second) // 2) == second


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Africa/Casablanca"])
@pytest.mark.parametrize("text", ["30 2 * * *", "0 0 * * *", "15 1 * * *"])
def test_a_time_of_day_is_once_a_day_all_year(zone, text):
    at, days = ms("2025-12-31T12:00Z"), []
    for _ in range(365):
        at = next_instant(parse_cron(text), ZoneInfo(zone), at)
        days.append(datetime.fromtimestamp(at / 1000, tz=ZoneInfo(zone)).date())
    assert len(set(days)) == 365
    assert (days[-1] - days[0]).days == 364
