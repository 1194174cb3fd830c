"""common/kept_lines.py: what of a line is kept, by whichever way it is logged, and within which bounds."""

import asyncio
import contextvars
import io
import logging

import pytest
import structlog

from common.errors import ConfigurationError
from common.kept_lines import KeptLines, begin_to_keep
from common.logs import configure_logs
from common.settings import Settings
from common.task_functions import read_keep_logs


def texts(kept):
    return [text for _, _, text in kept.newest()]


class Stream(io.BytesIO):
    """Takes the place of standard error."""


@pytest.fixture(params=["json", "console"])
def written(request):
    stream = Stream()
    configure_logs(Settings(log_format=request.param), stream)
    return stream


@pytest.fixture(autouse=True)
def in_a_context_of_its_own():
    """Let no other test's lines be kept by what this one began."""
    token = contextvars.copy_context()
    yield
    from common import kept_lines

    kept_lines._kept.set(None)
    del token


def test_a_line_of_structlogs_is_kept_as_it_is_said_without_what_its_attempt_says(written):
    kept = begin_to_keep(10)
    log = structlog.get_logger("any").bind(job_id="j", task="t", attempt=1, worker="w")
    log.info("fetched", url="https://x", bytes=17)
    ((_, level, text),) = kept.newest()
    assert (level, text) == ("info", "fetched url=https://x bytes=17")
    assert b"fetched" in written.getvalue()


def test_a_logger_that_was_bound_before_is_heard_too(written):
    log = structlog.get_logger().bind()
    kept = begin_to_keep(10)
    log.warning("late")
    assert texts(kept) == ["late"]


def test_what_the_level_leaves_out_of_the_log_is_not_kept(written):
    kept = begin_to_keep(10)
    structlog.get_logger().debug("chatter")
    logging.getLogger("library").info("chatter")
    assert texts(kept) == []


def test_an_error_is_kept_in_one_line(written):
    kept = begin_to_keep(10)
    try:
        raise ValueError("no way")
    except ValueError:
        structlog.get_logger().exception("failed", n=1)
        logging.getLogger("library").exception("so did I")
    assert texts(kept) == ["failed n=1 ValueError: no way", "so did I ValueError: no way"]


def test_lines_of_logging_are_kept(written):
    kept = begin_to_keep(10)
    logging.getLogger("library").warning("%s of %s", 1, 2)
    ((_, level, text),) = kept.newest()
    assert (level, text) == ("warning", "1 of 2")


def test_a_host_programs_own_structlog_is_heard_once():
    for factory in (structlog.stdlib.LoggerFactory(), structlog.ReturnLoggerFactory()):
        structlog.configure(processors=(structlog.processors.KeyValueRenderer(),), logger_factory=factory)
        kept = begin_to_keep(10)
        structlog.get_logger().warning("said", a=1)
        assert len(kept.newest()) == 1
        assert "said" in texts(kept)[0]
        assert "a=1" in texts(kept)[0]


def test_where_no_handler_is_what_logging_says_in_the_last_resort_is_still_said(capsys):
    root = logging.getLogger()
    root.handlers[:] = []
    begin_to_keep(10)
    logging.getLogger("library").warning("heard")
    assert "heard" in capsys.readouterr().err


def test_a_value_that_cannot_be_shown_costs_its_line_alone(written):
    class Broken:
        def __repr__(self):
            raise RuntimeError

    kept = begin_to_keep(10)
    structlog.get_logger().info("one", broken=Broken())
    structlog.get_logger().info("two")
    assert texts(kept) == ["two"]


async def test_tasks_and_threads_of_the_attempt_share_its_lines_and_no_others(written):
    async def attempt(name: str) -> KeptLines:
        kept = begin_to_keep(10)
        structlog.get_logger().info(name)
        await asyncio.create_task(asyncio.to_thread(structlog.get_logger().info, f"{name} in a thread"))
        return kept

    one, other = await asyncio.gather(*(asyncio.create_task(attempt(name)) for name in ("one", "other")))
    structlog.get_logger().info("outside")
    assert texts(one) == ["one", "one in a thread"]
    assert texts(other) == ["other", "other in a thread"]


def test_the_last_ones_are_kept_each_cut_and_all_within_a_bound():
    few = KeptLines(3)
    for number in range(5):
        few.add("info", str(number))
    assert texts(few) == ["2", "3", "4"]
    long = KeptLines(1000)
    for _ in range(1000):
        long.add("info", "x" * 2000)
    assert {len(text) for text in texts(long)} == {1000}
    assert 40_000 < sum(map(len, texts(long))) <= 64 * 1024
    assert texts(long)[-1].endswith("…")


@pytest.mark.parametrize("lines", [-1, 1001, True, "5", 2.5])
def test_a_number_of_lines_that_is_none_is_refused(lines):
    with pytest.raises(ConfigurationError, match="keep_logs"):
        read_keep_logs(lines, batch=None)


def test_a_batch_task_keeps_none():
    assert read_keep_logs(None, batch=10) is None
    assert read_keep_logs(0, batch=10) == 0
    with pytest.raises(ConfigurationError, match="batch"):
        read_keep_logs(5, batch=10)
