"""common/logs.py: one pipe for Barque, for tasks, for arq and for every library."""

import dataclasses
import io
import json
import logging
import math
import sys
from datetime import UTC, datetime

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from common.context import Context
from common.logs import configure_logs, configure_logs_of_host, to_json
from common.settings import load_settings


class Stream(io.BytesIO):
    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


def configured(*, terminal: bool = False, **settings) -> Stream:
    stream = Stream(terminal=terminal)
    configure_logs(load_settings(**settings), stream)
    return stream


class Nasty:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@dataclasses.dataclass
class Point:
    x: int


def cyclic() -> dict:
    ring: dict = {}
    ring["ring"] = ring
    return ring


def deep() -> list:
    value: list = []
    for _ in range(100_000):
        value = [value]
    return value


ODD = {
    "nan": math.nan, "infinity": math.inf, "huge": 10**6000, "large": 2**80, "bytes": b"\xff", "surrogate": "\ud800",
    "set": {1}, "object": object(), "nasty": Nasty(), "error": ValueError("no"),
    "dataclass": Point(1), "when": datetime.now(UTC),
    "cyclic": cyclic(), "deep": deep(), "nasty key": {Nasty(): 1}, "int key": {1: 2}, "tuple key": {(1, 2): 3},
    "surrogate key": {"\ud800": 1}, "nested": [{"a": (Nasty(), {"b": math.nan})}], "class": int,
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_any_value_becomes_json(name):
    line = json.loads(to_json({"event": "e", "value": ODD[name]}), parse_constant=pytest.fail)
    assert line["event"] == "e"
    assert "value" in line


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.builds(object)),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.one_of(st.text(), st.integers()), inner), st.tuples(inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values))
def test_any_line_is_one_line_of_valid_json(line):
    raw = to_json(line)
    assert b"\n" not in raw
    assert isinstance(json.loads(raw, parse_constant=pytest.fail), dict)


def test_a_line_has_its_event_level_and_time():
    stream = configured(log_format="json")
    structlog.get_logger("x").info("hello", job_id="j1", n=1)
    (line,) = stream.lines
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo == UTC
    assert line == {"event": "hello", "level": "info", "job_id": "j1", "n": 1}


def test_a_task_logs_under_its_job():
    stream = configured(log_format="json")
    context = Context(job_id="j1", task="t", attempt=2, worker="w")
    context.log.warning("low", left=3)
    (line,) = stream.lines
    assert (line["event"], line["level"], line["left"]) == ("low", "warning", 3)
    assert (line["job_id"], line["task"], line["attempt"], line["worker"]) == ("j1", "t", 2, "w")


def test_an_exception_is_one_line():
    stream = configured(log_format="json")
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("lib").exception("failed too")
    first, second = stream.lines
    assert "ValueError: no" in first["exception"]
    assert "ValueError: no" in second["exception"]


def test_logging_and_arq_come_out_of_the_same_pipe():
    stream = configured(log_format="json")
    logging.getLogger("some.library").warning("low on %s", "disk")
    logging.getLogger("arq.worker").info("from arq")
    first, second = stream.lines
    assert (first["event"], first["level"], first["logger"]) == ("low on disk", "warning", "some.library")
    assert (second["event"], second["level"], second["logger"]) == ("from arq", "info", "arq.worker")
    assert first["timestamp"]


def test_arqs_own_handler_is_taken_out_so_that_no_line_is_written_twice(capsys):
    from logging.config import dictConfig

    from arq.logs import default_log_config

    dictConfig(default_log_config(verbose=False))
    stream = configured(log_format="json")
    logging.getLogger("arq.worker").info("once")
    assert [line["event"] for line in stream.lines] == ["once"]
    assert "once" not in "".join(capsys.readouterr())


def test_configuring_twice_writes_each_line_once():
    first = configured(log_format="json")
    second = configured(log_format="json")
    logging.getLogger("lib").warning("a")
    structlog.get_logger().info("b")
    assert first.getvalue() == b""
    assert [line["event"] for line in second.lines] == ["a", "b"]


@pytest.mark.parametrize(
    ("level", "ours", "arqs", "libraries"),
    [
        ("DEBUG", "DEBUG INFO WARNING ERROR", "DEBUG INFO WARNING ERROR", "WARNING ERROR"),
        ("INFO", "INFO WARNING ERROR", "INFO WARNING ERROR", "WARNING ERROR"),
        ("WARNING", "WARNING ERROR", "WARNING ERROR", "WARNING ERROR"),
        ("ERROR", "ERROR", "ERROR", "ERROR"),
        ("CRITICAL", "", "", ""),
    ],
)
def test_the_least_level(level, ours, arqs, libraries):
    stream = configured(log_format="json", log_level=level)
    for name in ("DEBUG", "INFO", "WARNING", "ERROR"):
        number = logging.getLevelNamesMapping()[name]
        structlog.get_logger().log(number, f"ours {name}")
        logging.getLogger("arq.worker").log(number, "arqs %s", name)
        logging.getLogger("lib").log(number, "libraries %s", name)
    seen = [line["event"].split() for line in stream.lines]
    for who, expected in (("ours", ours), ("arqs", arqs), ("libraries", libraries)):
        assert [name for whose, name in seen if whose == who] == expected.split()


@pytest.mark.parametrize(
    ("form", "terminal", "is_json"),
    [
        ("json", True, True),
        ("json", False, True),
        ("console", False, False),
        ("auto", True, False),
        ("auto", False, True),
    ],
)
def test_the_form_is_json_but_on_a_terminal(form, terminal, is_json):
    stream = configured(terminal=terminal, log_format=form)
    structlog.get_logger().info("hello", n=1)
    assert stream.getvalue().startswith(b"{") is is_json


@pytest.mark.parametrize("terminal", [True, False])
def test_the_console_is_for_reading_and_has_colour_only_on_a_terminal(terminal):
    stream = configured(terminal=terminal, log_format="console")
    structlog.get_logger().info("hello", job_id="j1", odd="\ud800")
    logging.getLogger("lib").warning("from a library")
    text = stream.getvalue().decode()
    assert "hello" in text
    assert "j1" in text
    assert "from a library" in text
    assert ("\x1b[" in text) is terminal


def test_a_log_file_is_appended_to_and_its_folder_made(tmp_path):
    path = tmp_path / "logs" / "worker.jsonl"
    for event in ("one", "two"):
        configure_logs(load_settings(log_file=path, log_format="auto"))
        structlog.get_logger().info(event)
        for handler in logging.getLogger().handlers:
            stream = getattr(handler, "_stream", None)
            if stream is not None:
                stream.close()
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["one", "two"]


def test_without_a_file_lines_go_to_standard_error(monkeypatch):
    stream = Stream()
    monkeypatch.setattr(sys, "stderr", type("Err", (), {"buffer": stream})())
    configure_logs(load_settings(log_format="json"))
    structlog.get_logger().info("here")
    assert [line["event"] for line in stream.lines] == ["here"]


def test_a_host_program_keeps_its_own_logging(caplog):
    configure_logs_of_host()
    with caplog.at_level(logging.INFO, "barque.worker"):
        structlog.get_logger("barque.worker").info("hello", n=1)
        structlog.get_logger("barque.worker").debug("not this")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("barque.worker", "event='hello' n=1")]


def test_a_host_program_that_set_up_structlog_is_left_alone():
    seen = []
    structlog.configure(
        processors=[lambda logger, method, line: seen.append(line) or (_ for _ in ()).throw(structlog.DropEvent)]
    )
    configure_logs_of_host()
    structlog.get_logger().info("hello")
    assert [line["event"] for line in seen] == ["hello"]


def test_a_traceback_on_the_console_shows_no_local_variables():
    stream = configured(terminal=True, log_format="console")
    secret = "sk-" + "123456"
    try:
        raise ValueError(len(secret))
    except ValueError:
        structlog.get_logger().exception("it failed")
    text = stream.getvalue().decode()
    assert "ValueError" in text
    assert secret not in text
