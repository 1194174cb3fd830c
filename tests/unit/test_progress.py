"""common/progress.py: the records, their bytes, what is refused; and the line of cli/progress_line.py."""

import contextlib
import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.progress_line import progress_text
from common.codec import Reading
from common.errors import NotSerializable, SignatureRefused, Undecodable
from common.progress import Item, Progress, decode_item, decode_progress, encode_item, encode_progress, encode_value
from common.signing import Keyring
from common.values import ValueReader

SIGNED = Reading(signing=Keyring({"k1": "s" * 40}))
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)


@given(done=NUMBERS, total=st.none() | NUMBERS, message=st.text(), attempt=st.integers(1, 1000), signed=st.booleans())
def test_progress_comes_back_as_it_went(done, total, message, attempt, signed):
    reading = SIGNED if signed else Reading()
    raw = encode_progress(done, total, message, attempt=attempt, at_ms=1_700_000_000_123, job_id="j", reading=reading)
    progress = decode_progress(raw, reading, "j")
    assert (progress.done, progress.total, progress.attempt) == (done, total, attempt)
    assert progress.message == message[:1000].encode(errors="backslashreplace").decode()
    assert progress.at == datetime.fromtimestamp(1_700_000_000, tz=UTC) + timedelta(milliseconds=123)
    assert progress.fraction is None or 0 <= progress.fraction <= 1


@given(value=st.none() | st.text() | st.binary() | st.lists(st.integers(0, 99)), signed=st.booleans())
def test_an_item_comes_back_as_it_went(value, signed):
    reading = SIGNED if signed else Reading()
    raw = encode_item(encode_value(value), attempt=2, number=7, job_id="j", reading=reading)
    assert decode_item(raw, 7, "j", reading) == Item(value, 2, 7)


@pytest.mark.parametrize(
    ("done", "total", "fraction"),
    [(1, 4, 0.25), (0, 0, 1.0), (5, 0, 1.0), (9, 4, 1.0), (-1, 4, 0.0), (3, None, None), (0.5, 2.0, 0.25)],
)
def test_the_fraction_is_between_none_and_all(done, total, fraction):
    assert Progress(done, total, "", datetime.now(UTC), 1).fraction == fraction


@pytest.mark.parametrize("wrong", ["1", None, float("nan"), float("inf"), 1j, [1]])
def test_what_is_no_number_is_no_progress(wrong):
    if wrong is not None:
        with pytest.raises(NotSerializable, match="total is no number"):
            encode_progress(1, wrong, "", attempt=1, at_ms=1)
        with pytest.raises(NotSerializable, match="done is no number"):
            encode_progress(wrong, 1, "", attempt=1, at_ms=1)


@given(raw=st.binary(max_size=60))
def test_any_bytes_at_all_are_told_from_a_record(raw):
    for decode in (lambda: decode_progress(raw), lambda: decode_item(raw, 1, "j")):
        with contextlib.suppress(Undecodable):
            decode()


@given(at=st.integers(-(2**63), 2**63 - 1))
def test_a_time_that_is_none_is_told(at):
    raw = encode_progress(1, None, "", attempt=1, at_ms=at)
    try:
        assert decode_progress(raw).at.tzinfo is UTC
    except Undecodable:
        assert abs(at) > 10**13


@given(data=st.data())
def test_with_keys_every_bit_counts(data):
    progress = encode_progress(1, 2, "m", attempt=1, at_ms=1, job_id="j", reading=SIGNED)
    item = encode_item(encode_value([1]), attempt=1, number=1, job_id="j", reading=SIGNED)
    for raw, decode in (
        (progress, lambda raw: decode_progress(raw, SIGNED, "j")),
        (item, lambda raw: decode_item(raw, 1, "j", SIGNED)),
    ):
        decode(raw)
        at = data.draw(st.integers(0, len(raw) * 8 - 1))
        changed = bytearray(raw)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(SignatureRefused):
            decode(bytes(changed))


def test_what_was_signed_for_one_purpose_or_job_holds_for_no_other():
    progress = encode_progress(1, 2, "m", attempt=1, at_ms=1, job_id="j", reading=SIGNED)
    item = encode_item(encode_value([1]), attempt=1, number=1, job_id="j", reading=SIGNED)
    for refused in (
        lambda: decode_progress(progress, SIGNED, "other"),
        lambda: decode_item(item, 1, "other", SIGNED),
        lambda: SIGNED.signing.check_item(progress, "j"),
        lambda: SIGNED.signing.check_progress(item, "j"),
        lambda: SIGNED.signing.check_result(item, "j"),
        lambda: SIGNED.signing.check_job(progress, "j", ""),
    ):
        with pytest.raises(SignatureRefused, match="does not fit"):
            refused()


def test_an_item_that_was_moved_is_told():
    raw = encode_item(encode_value(1), attempt=1, number=3, job_id="j")
    with pytest.raises(Undecodable, match="item 2 of job j says that it is item 3"):
        decode_item(raw, 2, "j", Reading(), ValueReader(int))


PROGRESS = Progress(5, 10, "half-way", datetime.now(UTC), 1)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "[############------------]  50%  5/10  half-way"),
        ({"done": 10, "message": ""}, "[########################] 100%  10/10"),
        ({"total": None}, "5  half-way"),
        ({"done": 1234567, "total": 2000000, "message": ""}, "[##############----------]  61%  1,234,567/2,000,000"),
        ({"done": 0.123456789, "total": 1.0, "attempt": 2}, "[##----------------------]  12%  0.123457/1  (attempt 2)"),
        ({"message": "one\ntwo\x1b[31m"}, "[############------------]  50%  5/10  one two\\x1b[31m"),
    ],
)
def test_the_line_is_for_people(changes, text):
    progress = dataclasses.replace(PROGRESS, **changes)
    if "attempt" in changes:
        progress = dataclasses.replace(progress, message="")
    assert progress_text(progress, 200) == text


def test_the_line_is_no_longer_than_the_screen_is_wide():
    assert progress_text(PROGRESS, 30) == "[############------------]  5…"
    assert len(progress_text(dataclasses.replace(PROGRESS, message="x" * 900), 80)) == 80
