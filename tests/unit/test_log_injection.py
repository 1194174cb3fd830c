"""Text from elsewhere makes no log line of its own and moves no cursor, in either form of the log."""

import io
import json
import logging
import re

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from common.codec import decode_job, encode_job
from common.jobs import OutcomeKind, RemoteError
from common.logs import configure_logs, to_json
from common.redis.store import Claimed
from common.settings import Settings
from workers.attempt import Attempt, Outcome
from workers.attempt_log import AttemptLog

EVIL = "a\nFORGED\r\x1b[2J\x1b]0;title\x07\x9b31m\x7f\u2028\u202e\x00\ud800"
HARMFUL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Stream(io.BytesIO):
    def isatty(self) -> bool:
        return False


@pytest.fixture(params=["json", "console"])
def written(request):
    """Set logging up; `written()` returns what was logged, after a look at what no log may hold."""
    stream = Stream()
    configure_logs(Settings(log_format=request.param), stream)

    def read() -> str:
        text = stream.getvalue().decode()
        assert HARMFUL.search(text) is None
        if request.param == "json":
            assert all(json.loads(line) for line in text.split("\n") if line)
        return text

    return read


def lines_that_begin_as_one(text: str) -> list[str]:
    return [line for line in text.split("\n") if line and not line.startswith(" ")]


class Evil:
    def __repr__(self) -> str:
        return EVIL


def test_no_value_and_no_name_begins_a_line(written):
    log = structlog.get_logger("x")
    log.info(EVIL, **{"job_id": EVIL, EVIL: EVIL, "list": [EVIL], "map": {EVIL: EVIL}, "object": Evil(), "none": None})
    assert len(lines_that_begin_as_one(written())) == 1


def test_nor_do_libraries(written):
    logging.getLogger("lib").warning("says %s", EVIL)
    assert len(lines_that_begin_as_one(written())) == 1


def test_nor_does_the_text_of_an_exception(written):
    log = structlog.get_logger("x")
    try:
        try:
            raise KeyError(EVIL)
        except KeyError as error:
            raise ValueError(EVIL) from error
    except ValueError:
        log.exception("failed")
        logging.getLogger("lib").exception("failed too")
    lines = lines_that_begin_as_one(written())
    assert len(lines) == 2
    assert not any(line.startswith("FORGED") for line in lines)


@pytest.mark.parametrize("kind", [OutcomeKind.FAILED, OutcomeKind.RETRIED, OutcomeKind.SUCCEEDED])
def test_nor_does_an_attempt(written, kind):
    odd = EVIL.replace("\ud800", "\udcff")  # how a byte that is no UTF-8 stands in an id
    raw = encode_job("t" + EVIL.replace("\ud800", ""), (), {}, enqueued_ms=1)
    attempt = Attempt(Claimed(odd, raw, 1, 1, False, 0, "w:1:1"), odd)
    attempt.payload = decode_job(raw)
    error = RemoteError("mod." + EVIL, EVIL, f"Traceback\n{EVIL}")
    AttemptLog("w").write([Outcome(attempt, kind, None, run_seconds=0.1, error=error)])
    (line,) = lines_that_begin_as_one(written())
    assert f"job_{kind.value}" in line


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())))
def test_json_means_what_it_meant_and_holds_nothing_harmful(line):
    raw = to_json(line)
    assert HARMFUL.search(raw.decode()) is None
    assert json.loads(raw) == line
    if not any("\ud800" <= mark <= "\udfff" for mark in str(line)):
        assert json.loads(raw) == json.loads(msgspec.json.encode(line))
