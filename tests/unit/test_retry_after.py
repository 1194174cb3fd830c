"""common/retry_after.py: how long an exception asks to wait, in the shapes that HTTP libraries give it."""

import email.message
import math
import time
import urllib.error
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from types import SimpleNamespace

import aiohttp
import multidict
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from common.retry_after import LONGEST_WAIT, asked_to_wait, read_retry_after
from workers.tasks.http_errors import HttpUnavailable

NOON = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60),
        ("Sun Nov  6 08:50:37 1994", 60),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0),
        ("999999999999", 24 * 3600),
        ("Sun, 06 Nov 2094 08:49:37 GMT", 24 * 3600),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", 1.5),
        ("1.", None),
        ("inf", None),
        ("nan", None),
        ("1e5", None),
        ("9" * 5000, None),
        ("9" * 60, 24 * 3600),
        ("Sun, 06 Nov 1994 08:50:37 -0000", 60),
        ("soon", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("²", None),
    ],
)
def test_a_header_is_seconds_or_a_date(value, seconds):
    assert read_retry_after(value, now=NOON) == seconds


@given(st.text(max_size=80))
def test_whatever_a_header_says_the_answer_is_seconds_up_to_a_day_or_nothing(text):
    wait = read_retry_after(text)
    assert wait is None or 0 <= wait <= LONGEST_WAIT


class Failed(Exception):
    """Has whatever attributes a test gives it."""

    def __init__(self, **attributes: object) -> None:
        super().__init__("failed")
        vars(self).update(attributes)


def like_httpx(headers) -> Exception:
    return Failed(response=SimpleNamespace(headers=headers, status_code=429))


def like_aiohttp(headers) -> Exception:
    request = aiohttp.RequestInfo(URL("http://a/"), "GET", multidict.CIMultiDictProxy(multidict.CIMultiDict()))
    return aiohttp.ClientResponseError(request, (), status=503, headers=multidict.CIMultiDict(headers))


def like_urllib(headers) -> Exception:
    message = email.message.Message()
    for name, value in headers.items():
        message[name] = value
    return urllib.error.HTTPError("http://a/", 503, "busy", message, None)


@pytest.mark.parametrize("make", [like_httpx, like_aiohttp, like_urllib, lambda headers: Failed(headers=headers)])
@pytest.mark.parametrize("name", ["Retry-After", "retry-after"])
def test_headers_are_found_where_the_libraries_keep_them(make, name):
    assert asked_to_wait(make({name: "17"})) == 17
    later = formatdate(time.time() + 1000, usegmt=True)
    assert 900 < asked_to_wait(make({name: later})) <= 1000
    assert asked_to_wait(make({"Content-Type": "17"})) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (5, 5),
        (0, 0),
        (2.5, 2.5),
        ("30", 30),
        (b"30", 30),
        (timedelta(minutes=1), 60),
        (10**30, LONGEST_WAIT),
        (math.inf, LONGEST_WAIT),
        (datetime(2999, 1, 1, tzinfo=UTC), LONGEST_WAIT),
        (datetime(1999, 1, 1), 0),  # noqa: DTZ001 - as some client may
        (None, None),
        (-1, None),
        (math.nan, None),
        (10**400, None),
        (True, None),
        (timedelta(seconds=-1), None),
        ("soon", None),
        (b"\xff", None),
        ([5], None),
        (object(), None),
        (lambda: 5, None),
    ],
)
def test_an_attribute_is_a_number_a_span_a_date_or_a_header_and_garbage_is_nothing(value, seconds):
    assert asked_to_wait(Failed(retry_after=value)) == seconds


def test_our_own_http_errors_say_it():
    assert asked_to_wait(HttpUnavailable("busy", status=503, url="u", retry_after=9)) == 9
    assert asked_to_wait(HttpUnavailable("busy", status=503, url="u")) is None


def test_what_an_error_was_raised_from_is_asked_too_and_the_nearest_that_says_something_counts():
    error, middle, far = Failed(), Failed(retry_after="soon"), Failed(retry_after=3)
    error.__cause__, middle.__cause__ = middle, far
    assert asked_to_wait(error) == 3
    middle.headers = {"Retry-After": "7"}
    assert asked_to_wait(error) == 7


def test_a_ring_of_causes_has_an_end():
    one, other = Failed(), Failed()
    one.__cause__, other.__cause__ = other, one
    assert asked_to_wait(one) is None


class Hostile(Exception):
    @property
    def retry_after(self):
        raise RuntimeError("no response has been set")

    @property
    def response(self):
        raise ValueError

    @property
    def headers(self):
        return HostileHeaders()


class HostileHeaders:
    def get(self, _name):
        raise KeyError


@pytest.mark.parametrize(
    "error",
    [
        Hostile(),
        Failed(response=None),
        Failed(response=SimpleNamespace(headers=None)),
        Failed(headers=[("Retry-After", "5")]),
        Failed(headers={"Retry-After": {}}),
        KeyError(),
        OSError(5, "x"),
    ],
)
def test_whatever_an_exception_is_made_of_nothing_is_raised(error):
    assert asked_to_wait(error) is None
