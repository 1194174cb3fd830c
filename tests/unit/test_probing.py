"""cli/probing.py: what is asked of pages, and what their answers, or none, mean."""

import contextlib
import json
import socket

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.probing import Found, Known, probe
from workers.page_server import Answer, PageServer


@pytest.fixture
def page():
    with contextlib.ExitStack() as stack:

        def start(pid: int = 1, port: int = 0, *, alive: bool = True, reasons: dict[str, str] | None = None) -> int:
            said = {"worker": f"host-{pid}-abc", "pid": pid, "alive": alive, "reasons": reasons or {}}
            body = json.dumps(said).encode()
            server = PageServer(lambda _: Answer(200, "application/json", body), "127.0.0.1", port)
            stack.callback(server.stop)
            return server.port

        yield start


@pytest.fixture
def two(page):
    """Two pages, side by side; return their ports as a range."""
    while True:
        first = page(1)
        with contextlib.suppress(OSError):
            page(2, first + 1)
            return f"{first}-{first + 1}"


@pytest.fixture
def ask(monkeypatch):
    def at(ports: object, *, pid: int | None = None, host: str | None = None, seconds: float = 30.0) -> Found:
        monkeypatch.setenv("BARQUE_METRICS_PORT", str(ports))
        if host is not None:
            monkeypatch.setenv("BARQUE_METRICS_HOST", host)
        return probe(pid=pid, seconds=seconds)

    return at


@pytest.fixture
def silent():
    """A port whose listener says nothing: that of a process that stands still."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize("host", [None, "127.0.0.1", "0.0.0.0"])
def test_a_page_says_how_its_worker_is(page, ask, host):
    found = ask(page(7), host=host)
    assert found.workers == [Known("host-7-abc", alive=True, pid=7)]
    assert found.is_well(ready=True, at_least=1)
    assert found.workers[0].line() == "host-7-abc: alive, ready"


def test_one_that_is_not_ready_fails_only_who_asks_for_that(page, ask):
    found = ask(page(7, reasons={"paused": "all of its queues are"}))
    assert found.is_well(ready=False, at_least=1)
    assert not found.is_well(ready=True, at_least=1)
    assert found.workers[0].line() == "host-7-abc: alive, not ready\n  paused: all of its queues are"
    document = found.document(well=True, asked="live")
    assert document["workers"][0]["reasons"] == {"paused": "all of its queues are"}
    json.dumps(document)


def test_one_that_is_not_alive_fails_both(page, ask):
    found = ask(page(7, alive=False))
    assert not found.is_well(ready=False, at_least=1)
    assert not found.is_well(ready=True, at_least=1)


def test_where_nobody_listens_there_is_no_worker(ask, closed_port):
    found = ask(closed_port)
    assert not found.is_well(ready=False, at_least=1)
    assert found.trouble == f"no worker answers at 127.0.0.1:{closed_port}: nobody listens there"


def test_one_that_listens_and_says_nothing_is_not_alive(ask, silent):
    found = ask(silent, seconds=0.1)
    assert not found.is_well(ready=False, at_least=1)
    assert "gave no answer within 0.1 s" in found.workers[0].line()
    assert not ask(silent, seconds=0.1, pid=9).is_well(ready=False, at_least=1), "it can be nobody else's"


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"{}", b'{"worker": 1, "alive": 1, "reasons": 3, "pid": 4}', b"\xff"]
)
def test_what_is_no_workers_page_is_said(ask, body):
    server = PageServer(lambda _: Answer(200, "text/html", body), "127.0.0.1", 0)
    try:
        found = ask(server.port)
    finally:
        server.stop()
    assert not found.is_well(ready=False, at_least=1)
    assert "is no worker's page" in found.trouble


def test_of_a_range_all_that_answer_are_looked_at(ask, two):
    found = ask(two)
    assert [known.pid for known in found.workers] == [1, 2]
    assert found.is_well(ready=True, at_least=2)
    assert not found.is_well(ready=True, at_least=3)
    assert [known.pid for known in ask(two, pid=2).workers] == [2]
    assert "no worker of process 3 answers" in ask(two, pid=3).trouble


def test_one_of_several_that_is_not_well_fails_all(page, ask, two):
    first, _, last = two.partition("-")
    with contextlib.suppress(OSError):
        page(3, int(last) + 1, alive=False)
        assert not ask(f"{first}-{int(last) + 1}").is_well(ready=False, at_least=1)


def test_a_setting_that_is_wrong_is_said(ask):
    found = ask("ninety")
    assert found.trouble.startswith("BARQUE_METRICS_PORT: 'ninety' is no port")
    assert not found.is_well(ready=False, at_least=1)
    assert not ask("").is_well(ready=False, at_least=1)


def test_what_is_not_known_of_redis_is_no_reason_for_a_restart():
    found = Found(trouble="Redis …: connection refused", unknown=True)
    assert found.is_well(ready=False, at_least=1)
    assert not found.is_well(ready=True, at_least=1)


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        (["--live", "--ready"], 2, "ask for one of the two"),
        (["--port", "ninety"], 1, "BARQUE_METRICS_PORT: 'ninety' is no port"),
        (["--port", "1", "--pid", "0"], 2, "--pid"),
    ],
)
def test_what_is_wrong_with_the_question_is_said(given, code, told):
    ended = CliRunner().invoke(app, ["health", *given])
    assert ended.exit_code == code
    assert told in ended.stderr


def test_the_command_says_how_many_there_are_to_be(two):
    ended = CliRunner().invoke(app, ["health", "--port", two, "--at-least", "3"])
    assert ended.exit_code == 1
    assert "2 of the 3 worker processes" in ended.stderr
    assert ended.stdout.count("alive, ready") == 2
