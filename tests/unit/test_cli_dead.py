"""`barque dead` without a server: help, what is refused before anything is asked, and what is shown."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from cli import dead
from cli.dead import COMMANDS
from cli.dead_view import hex_lines, show_list, show_one
from cli.main import app, main
from common.codec import MSGPACK_ONLY, encode_job
from common.dead_letters import About, DeadLetter, decode_about, encode_about, read_letter
from producer.dead import DeadPage, Replayed

ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC).timestamp() * 1000


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr("typer.rich_utils.FORCE_TERMINAL", None)


def a_letter(payload: bytes | None = None, **about) -> DeadLetter:
    known = {
        "task": "charge", "queue": "arq:queue", "error": "builtins.ValueError", "message": "no \x1b[31m money\nat all",
        "attempts": 3, "worker": "w", "enqueued_ms": round(NOW) - 90_000, "until_ms": round(NOW) + 60_000,
    } | about  # fmt: skip
    return read_letter(
        "j1", NOW - 60_000, About(**known), traceback="Traceback\x07\n  File x", payload=payload, reading=MSGPACK_ONLY
    )


PAYLOAD = encode_job("charge", ("hunter2",), {"amount": 5}, enqueued_ms=1)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_teaches_by_example_in_eighty_columns(command):
    result = CliRunner().invoke(app, ["dead", command, "--help"], prog_name="barque")
    assert result.exit_code == 0
    assert f"barque dead {command}" in result.stdout.partition("Examples:")[2]
    assert "--json" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_page_on_the_commands_has_every_command_and_option():
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    group = typer.main.get_command(app).commands["dead"]
    assert group.commands.keys() == COMMANDS.keys()
    for name, command in group.commands.items():
        assert f"`{name}" in page
        options = [max(each.opts, key=len) for each in command.params if each.param_type_name == "option"]
        assert [option for option in options if option not in page] == []


@pytest.mark.parametrize("command", ["replay", "delete"])
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "say which"),
        (["a", "--task", "t"], "one of"),
        (["--all", "--task", "t", "--yes"], "one of"),
        (["--all"], "there is nobody to ask"),
        (["--task", "t", "--newer", "soon", "--yes"], "'soon' is no length of time"),
        (["--task", "t", "--limit", "0", "--yes"], "greater than or equal to 1"),
    ],
)
def test_what_is_not_clear_is_refused_before_the_server_is_asked(command, arguments, why, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["dead", command, "--redis-url", "redis://127.0.0.1:1", *arguments])
    assert ended.value.code == 2
    assert why in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_list_has_a_line_each_and_obeys_no_control_character(capsys):
    show_list(DeadPage((a_letter(), a_letter(task="", error="")), "5.001"), 7, filtered=False, as_json=False)
    shown = capsys.readouterr()
    assert "ValueError: no \\x1b[31m money" in " ".join(shown.out.split())
    assert "\x1b" not in shown.out
    assert "at all" not in shown.out, "the first line of a message will do"
    assert "2 of 7 shown; the next ones: --after 5.001" in shown.err
    assert max(map(len, shown.out.splitlines())) <= 80


def test_a_list_in_colour_has_the_same_words(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    show_list(DeadPage((a_letter(),), None), 1, filtered=False, as_json=False)
    assert "\x1b[31m" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("total", "filtered", "words"),
    [(0, False, "There are no"), (0, True, "There are no"), (5, True, "Of 5 dead letters none fits")],
)
def test_an_empty_list_says_so(total, filtered, words, capsys):
    show_list(DeadPage((), None), total, filtered=filtered, as_json=False)
    assert words in capsys.readouterr().out


def test_one_is_shown_without_its_arguments_unless_they_are_asked_for(capsys):
    for as_json in (False, True):
        show_one(a_letter(PAYLOAD), arguments=False, as_json=as_json)
        assert "hunter2" not in capsys.readouterr().out
    show_one(a_letter(PAYLOAD), arguments=True, as_json=False)
    assert 'charge("hunter2", amount=5)' in capsys.readouterr().out
    show_one(a_letter(PAYLOAD), arguments=True, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["arguments"], document["keyword_arguments"]) == (["hunter2"], {"amount": 5})
    assert document["error"]["traceback"] == "Traceback\x07\n  File x"
    assert "payload_hex" not in document


def test_one_says_what_its_reason_means_and_what_to_do(capsys):
    show_one(a_letter(PAYLOAD, reason="lost"), arguments=False, as_json=False)
    shown = capsys.readouterr()
    assert "lost: its worker was lost in its last attempt" in " ".join(shown.out.split())
    assert "Traceback\\x07" in shown.out
    assert "barque dead replay j1" in shown.err


def test_a_payload_that_cannot_be_read_is_shown_as_hex(capsys):
    raw = b"\xff\x00hunter2 and more than sixteen bytes"
    show_one(a_letter(raw, task="", reason="undecodable"), arguments=False, as_json=False)
    shown = capsys.readouterr().out
    assert "ff006875 6e746572" in shown
    assert "--arguments shows all of it" in shown
    assert raw[16:24].decode() not in shown
    assert max(map(len, shown.splitlines())) <= 80
    show_one(a_letter(raw), arguments=True, as_json=False)
    assert "sixteen" in "".join(line[-16:].strip() for line in capsys.readouterr().out.splitlines() if "  0000" in line)
    show_one(a_letter(raw), arguments=True, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert bytes.fromhex(document["payload_hex"]) == raw
    assert "the payload is no job" in document["unreadable"]


def test_hex_has_sixteen_bytes_a_line():
    assert hex_lines(bytes(range(60, 78))) == (
        "000000  3c3d3e3f 40414243 44454647 48494a4b  <=>?@ABCDEFGHIJK\n"
        "000010  4c4d                                 LM"
    )  # fmt: skip
    assert hex_lines(b"") == ""


def test_a_record_survives_what_utf8_has_no_form_for_and_is_bounded():
    about = decode_about(encode_about(About(task="t\ud800", message="x" * 100_000)))
    assert about.task == "t\\ud800"
    assert len(about.message) == 4096
    assert decode_about(None).reason == decode_about(b"\xc1").reason == "unknown"


def test_a_time_that_is_none_is_left_out():
    letter = a_letter(enqueued_ms=10**18, until_ms=0)
    assert (letter.enqueued_at, letter.expires_at) == (None, None)
    assert datetime.now(UTC) - letter.died_at > timedelta(seconds=50)


@pytest.mark.parametrize(
    ("command", "arguments", "found", "question"),
    [
        ("replay", ["--all"], 1234, "Replay 1,234 jobs, as each may act twice?"),
        ("delete", ["--all"], 1, "Delete 1 job, for good?"),
        ("delete", ["--task", "t", "--limit", "5"], 9, "Delete 5 jobs, for good?"),
        ("replay", ["--task", "t"], 9, None),
        ("delete", ["--task", "t"], 0, None),
        ("delete", ["--all", "--yes"], 9, None),
        ("delete", ["j1"], 9, None),
    ],
)
def test_what_cannot_be_taken_back_is_asked_about_with_its_number(
    command, arguments, found, question, monkeypatch, capsys
):
    asked = []

    def confirm(text, *, err):
        asked.append(text)
        assert err, "stdout is for what programs read"
        return False

    def run(settings, ask):
        letters = SimpleNamespace(
            count=lambda **_: found, replay=lambda *_, **__: Replayed(1), delete=lambda *_, **__: 1
        )
        return ask(SimpleNamespace(dead=letters))

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(dead.typer, "confirm", confirm)
    monkeypatch.setattr(dead, "ask", run)
    with pytest.raises(SystemExit) as ended:
        main(["dead", command, *arguments])
    assert asked == ([question] if question else [])
    assert ended.value.code == (2 if question else 0)
    assert ("Nothing was done." in capsys.readouterr().err) is bool(question)
