"""Cron expressions: what is read, what is refused and how it is said, and which days and times are named."""

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.cron_expression import parse_cron
from common.errors import ConfigurationError


def times(text: str, start: str, count: int = 4) -> list[str]:
    """Return the first times from `start` on, as text."""
    expression, at, found = parse_cron(text), datetime.fromisoformat(start), []
    while len(found) < count:
        at = expression.next_time(at)
        found.append(f"{at:%Y-%m-%d %H:%M}" + (f":{at:%S}" if at.second else ""))
        at += timedelta(seconds=1)
    return found


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("* * * * *", "2026-01-01 00:00:30", ["2026-01-01 00:01", "2026-01-01 00:02"]),
        ("*/20 * * * *", "2026-01-01 00:01", ["2026-01-01 00:20", "2026-01-01 00:40", "2026-01-01 01:00"]),
        ("50/5 * * * *", "2026-01-01 00:00", ["2026-01-01 00:50", "2026-01-01 00:55", "2026-01-01 01:50"]),
        ("10-20/5 8 * * *", "2026-01-01 09:00", ["2026-01-02 08:10", "2026-01-02 08:15", "2026-01-02 08:20"]),
        ("0 22-23,0-1 * * *", "2026-01-01 12:00", ["2026-01-01 22:00", "2026-01-01 23:00", "2026-01-02 00:00"]),
        ("30 6 * * mon-fri", "2026-07-03 07:00", ["2026-07-06 06:30", "2026-07-07 06:30"]),
        ("0 0 * * sat-sun", "2026-07-01", ["2026-07-04 00:00", "2026-07-05 00:00", "2026-07-11 00:00"]),
        ("0 0 * * 5-7", "2026-07-01", ["2026-07-03 00:00", "2026-07-04 00:00", "2026-07-05 00:00"]),
        ("0 0 1 jan,JUL *", "2026-01-02", ["2026-07-01 00:00", "2027-01-01 00:00"]),
        ("0 0 31 * *", "2026-01-31 01:00", ["2026-03-31 00:00", "2026-05-31 00:00"]),
        ("0 0 29 2 *", "2026-01-01", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        ("0 0 29 2 ?", "2097-01-01", ["2104-02-29 00:00"]),
        ("0 0 L * *", "2028-02-01", ["2028-02-29 00:00", "2028-03-31 00:00", "2028-04-30 00:00"]),
        ("0 0 L-2,15 * *", "2026-02-01", ["2026-02-15 00:00", "2026-02-26 00:00", "2026-03-15 00:00"]),
        ("0 0 * * friL", "2026-07-01", ["2026-07-31 00:00", "2026-08-28 00:00"]),
        ("0 0 * * mon#1,3#5", "2026-07-01", ["2026-07-06 00:00", "2026-07-29 00:00", "2026-08-03 00:00"]),
        ("0 0 13 * fri", "2026-02-01", ["2026-02-06 00:00", "2026-02-13 00:00", "2026-02-20 00:00"]),
        ("0 0 */2 * mon", "2026-06-01", ["2026-06-01 00:00", "2026-06-15 00:00", "2026-06-29 00:00"]),
        ("*/30 59 23 31 12 *", "2026-01-01", ["2026-12-31 23:59", "2026-12-31 23:59:30", "2027-12-31 23:59"]),
        ("@hourly", "2026-01-01 00:00:01", ["2026-01-01 01:00"]),
        (" @Weekly ", "2026-07-01", ["2026-07-05 00:00"]),
        ("@yearly", "2026-07-01", ["2027-01-01 00:00"]),
    ],
)
def test_the_times_an_expression_names(text, start, expected):
    assert times(text, start, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has 0 fields; give five (minute hour day-of-month month day-of-week), or six with seconds first"),
        ("* * * *", "it has 4 fields; give five"),
        ("5", "it has 1 field; give five"),
        ("* * * * * * *", "it has 7 fields"),
        ("60 * * * *", "'60' is no minute: give 0-59"),
        ("* 24 * * *", "'24' is no hour: give 0-23"),
        ("* * 0 * *", "'0' is no day of month: give 1-31"),
        ("* * * 13 *", "'13' is no month: give 1-12 or jan-dec"),
        ("* * * * 8", "'8' is no day of week: give 0-7 (0 and 7 are Sunday) or sun-sat"),
        ("* * * fri *", "'fri' is no month"),
        ("* * * * jan", "'jan' is no day of week"),
        ("1-x * * * *", "'x' of '1-x' is no minute"),
        ("0 22-2 * * *", "'22-2' in the hour goes backwards: write 22-23,0-2"),
        ("0 0 * * fri-mon", "'fri-mon' in the day of week goes backwards: write 5-6,0-1"),
        ("*/90 * * * *", "a step counts within the field, from 1 to 59; for an interval of any length use every(…)"),
        ("*/0 * * * *", "'*/0' in the minute: a step counts"),
        ("1,,2 * * * *", "an empty part between commas in the minute: write *, a, a-b, */n"),
        ("*-5 * * * *", "'*-5' in the minute: write"),
        ("? * * * *", "'?' in the minute: write"),
        ("5.5 * * * *", "'5.5' in the minute: write"),
        ("* * LW * *", "'LW' in the day of month: the nearest working day (W) is not supported"),
        ("* * L-31 * *", "'L-31' in the day of month: no month has a day"),
        ("* * * * mon#6", "'mon#6' in the day of week: a month has one to five of them, mon#1 to #5"),
        ("0 0 30 2 *", "there is never such a day: no month it names is that long"),
        ("@reboot", "a fleet has no reboot; have on_startup do it"),
        ("@fortnightly", "no such name; there are @yearly, @annually"),
        ("\u0661 * * * *", "in the minute: write"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_write(text, why):
    with pytest.raises(ConfigurationError) as raised:
        parse_cron(text)
    assert str(raised.value).startswith(f"cron {text!r}: ")
    assert why in str(raised.value)


@given(st.text(alphabet="0123456789*/-,?#lLwWabcfinmorstu @", max_size=24))
def test_any_text_is_read_or_refused_and_nothing_else(text):
    try:
        expression = parse_cron(text)
    except ConfigurationError:
        return
    assert expression.next_time(datetime.fromisoformat("2026-01-01")) is not None


numbers = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}


@st.composite
def fields(draw, kind: str) -> tuple[str, set[int]]:
    """Return one field as text, and all numbers it stands for, worked out the long way."""
    low, high = numbers[kind]
    parts, meant = [], set()
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(low, high))
        last = draw(st.integers(first, high))
        step = draw(st.integers(1, high))
        text, members = draw(
            st.sampled_from(
                [
                    ("*", set(range(low, high + 1))),
                    (f"*/{step}", {n for n in range(low, high + 1) if (n - low) % step == 0}),
                    (f"{first}", {first}),
                    (f"{first}-{last}", {n for n in range(low, high + 1) if first <= n <= last}),
                    (f"{first}-{last}/{step}", {n for n in range(first, last + 1) if (n - first) % step == 0}),
                    (f"{first}/{step}", {n for n in range(first, high + 1) if (n - first) % step == 0}),
                ]
            )
        )
        parts.append(text)
        meant |= members
    return ",".join(parts), meant


@given(
    st.tuples(*(fields(kind) for kind in numbers)),
    st.datetimes(datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2040-01-01")),
)
def test_the_next_time_is_the_one_that_a_look_at_every_minute_finds(drawn, start):
    text = " ".join(field for field, _ in drawn)
    minutes, hours, days, months, weekdays = (meant for _, meant in drawn)
    day_text, weekday_text = drawn[2][0], drawn[4][0]
    either = not day_text.startswith("*") and not weekday_text.startswith("*")

    def named(at: datetime) -> bool:
        of_month, of_week = at.day in days, at.isoweekday() % 7 in weekdays
        return (
            at.minute in minutes
            and at.hour in hours
            and at.month in months
            and ((of_month or of_week) if either else (of_month and of_week))
        )

    try:
        found = parse_cron(text).next_time(start)
    except ConfigurationError:
        assert not either
        assert min(days) > 28
        return
    at = start.replace(second=0, microsecond=0)
    if at < start:
        at += timedelta(minutes=1)
    # Minute by minute for some days; a later one is only held to be named itself, and no earlier day to be.
    for _ in range(4000):
        if named(at):
            assert found == at
            return
        at += timedelta(minutes=1)
    assert named(found)
    while at < found and at.date() < found.date() and (at - start).days < 800:
        assert not named(at.replace(hour=min(hours), minute=min(minutes)))
        at += timedelta(days=1)


def test_a_day_is_named_or_not_whatever_the_time():
    expression = parse_cron("0 0 L * *")
    assert [expression.names_day(date(2027, 2, day)) for day in (1, 27, 28)] == [False, False, True]


def test_the_end_of_the_calendar_is_an_end_and_no_error():
    assert parse_cron("0 0 29 2 *").next_time(datetime.fromisoformat("9998-12-31 23:59:59.000005")) is None
