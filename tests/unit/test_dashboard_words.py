from datetime import UTC, datetime

import pytest
from markupsafe import Markup

from dashboard.pages import words
from dashboard.pages.words import NONE


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, NONE), (0, "0s"), (-3, "0s"), (0.44, "0.4s"), (9.96, "10s"), (59.6, "1m"), (125, "2m 5s"),
        (3600, "1h"), (3605, "1h"), (90_061, "1d 1h"), (400 * 86400, "400d"),
    ],
)  # fmt: skip
def test_a_length_of_time_has_its_two_largest_units(seconds, said):
    assert words.age(seconds) == said


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (None, NONE), (float("inf"), NONE), (0, "0 ms"), (0.421, "0.42 ms"), (3.14, "3.1 ms"), (38.2, "38 ms"),
        (1234, "1.23 s"), (59_400, "59 s"), (125_000, "2m 5s"),
    ],
)  # fmt: skip
def test_milliseconds_have_the_digits_that_matter(ms, said):
    assert words.milliseconds(ms) == said


def test_rates_parts_and_sizes():
    assert [words.rate(each) for each in (None, 0, 0.251, 4.06, 1230.4)] == [NONE, "0", "0.25", "4.1", "1,230"]
    assert [words.percent(each) for each in (None, 0, 0.014, 0.5, 1)] == [NONE, "0 %", "1.4 %", "50 %", "100 %"]
    assert [words.bytes_size(each) for each in (None, 512, 61.5 * 2**20, 2**41)] == [
        NONE, "512 B", "61.5 MiB", "2048 GiB",
    ]  # fmt: skip


def test_what_turns_the_text_around_it_is_shown():
    assert words.harmless("a\u202eb\x1b[0m\tc\n\udcff") == "a\\u202eb\\x1b[0m\tc\n\\udcff"
    ours = Markup("<b>\u202e</b>")
    assert words.harmless(ours) is ours
    assert words.harmless(7) == 7


def test_an_address_holds_any_bytes():
    assert words.address("a/b &\udcff") == "a%2Fb%20%26%FF"


def test_a_call_is_shown_as_one_writes_it():
    assert words.call_text("greet", ["Ada", {1: (2,)}], {"after": 2}) == 'greet("Ada", {"1": [2]}, after=2)'
    assert words.call_text(None, [datetime(2026, 1, 1, tzinfo=UTC)], {}).startswith('?("datetime.datetime(2026')


def test_an_error_is_one_short_line():
    assert words.short_error("builtins.ValueError", "no\nmore") == "ValueError: no"
    assert words.short_error("", "odd") == "odd"
    assert words.short_error("a.B", "") == "B"
    assert len(words.short_error("a.B", "x" * 500)) == 200
