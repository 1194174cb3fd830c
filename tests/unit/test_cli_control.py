"""`barque abort` and `barque reschedule` without a server: what is refused, and what is asked of whom."""

from types import SimpleNamespace

import pytest

from cli import abort as abort_command
from cli import asking
from cli.main import main
from producer.aborting import Aborted


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr("typer.rich_utils.FORCE_TERMINAL", None)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["abort"], "say which"),
        (["abort", "a", "--task", "t"], "one of"),
        (["abort", "a", "--all"], "one of"),
        (["abort", "--all", "--task", "t", "--yes"], "one of"),
        (["abort", "--all"], "there is nobody to ask"),
        (["abort", "a", "--dry-run"], "ids are looked at by"),
        (["abort", "--task", "t", "--older", "soon"], "'soon' is no length of time"),
        (["abort", "--state", "queued,late", "--yes"], "give scheduled, queued, running"),
        (["abort", "--argument", "hunter2", "--yes"], "write KEY=VALUE"),
        (["pause"], "say which"),
        (["resume"], "say which"),
        (["reschedule", "a"], "say when"),
        (["reschedule", "a", "--delay", "5m", "--at", "2030-01-31T08:00Z"], "say when"),
        (["reschedule", "a", "--at", "tomorrow"], "no ISO 8601 time"),
    ],
)
def test_what_is_not_clear_is_refused_before_the_server_is_asked(arguments, why, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--redis-url", "redis://127.0.0.1:1"])
    assert ended.value.code == 2
    told = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert why in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("arguments", "found", "question"),
    [
        (["--task", "t"], 1234, "Abort 1,234 jobs, for good?"),
        (["--queue", "low", "--all"], 1, "Abort 1 job, for good?"),
        (["--all"], 0, None),
        (["--all", "--yes"], 9, None),
        (["--task", "t", "--dry-run"], 9, None),
    ],
)
def test_what_cannot_be_taken_back_is_asked_about_with_its_number(arguments, found, question, monkeypatch, capsys):
    asked = []
    calls = []

    def confirm(text, *, err):
        asked.append(text)
        assert err, "stdout is for what programs read"
        return False

    def ask(settings, question):
        def abort_where(*, dry_run, progress, **filters):
            calls.append((dry_run, filters))
            return Aborted(looked_at=5000, matched=found, cancelled=0 if dry_run else found)

        return question(SimpleNamespace(abort_where=abort_where))

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(asking.typer, "confirm", confirm)
    monkeypatch.setattr(abort_command, "ask", ask)
    with pytest.raises(SystemExit) as ended:
        main(["abort", *arguments])
    assert asked == ([question] if question else [])
    assert ended.value.code == (2 if question else 0)
    assert ("Nothing was done." in capsys.readouterr().err) is bool(question)
    if question or "--dry-run" in arguments:
        assert [dry_run for dry_run, _ in calls] == [True]


def test_what_is_typed_becomes_filters():
    typed = ["0=5", "name=ada", "a-b=[1]"]
    chosen = abort_command._filters("t*", "low", "queued, running", 90.0, typed, ["tenant=7"])
    assert chosen == {
        "task": "t*", "queue": "low", "state": ["queued", "running"], "older_than": 90.0,
        "arguments": {0: 5, "name": "ada", "a-b": [1]}, "metadata": {"tenant": 7},
    }  # fmt: skip
