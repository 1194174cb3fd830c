"""`barque schedules` without a server: help, what is refused before anything is asked, and what is shown."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.main import app, main
from cli.schedules import COMMANDS
from cli.schedules_view import show_list, show_one
from common.jobs import JobState
from common.schedule_records import ScheduleInfo

ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr("typer.rich_utils.FORCE_TERMINAL", None)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_teaches_by_example_in_eighty_columns(command):
    result = CliRunner().invoke(app, ["schedules", command, "--help"], prog_name="barque")
    assert result.exit_code == 0
    assert f"barque schedules {command}" in result.stdout.partition("Examples:")[2]
    assert "--json" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_page_on_the_commands_has_every_command_and_option():
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    group = typer.main.get_command(app).commands["schedules"]
    assert group.commands.keys() == COMMANDS.keys()
    for name, command in group.commands.items():
        assert f"`{name}" in page
        options = [max(each.opts, key=len) for each in command.params if each.param_type_name == "option"]
        assert [option for option in options if option not in page] == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["n", "t"], "say when: --cron '*/5 * * * *', or --every 90s"),
        (["n", "t", "--every", "1m", "--cron", "@daily"], "one of the"),
        (["n", "t", "--every", "1m", "--timezone", "Asia/Tokyo"], "an interval has no time zone"),
        (["n", "t", "--every", "soon"], "'soon' is no length of time"),
        (["n", "t", "--every", "0.1s"], "from one second to a year"),
        (["n", "t", "--cron", "0 25 * * *"], "'25' is no hour: give 0-23"),
        (["n", "t", "--cron", "@daily", "--timezone", "Mars/Base"], "no such time zone"),
        (["n", "t", "--cron", "@daily", "--missed", "twice"], "give 'skip', 'once' or 'all'"),
        (["n", "t", "--cron", "@daily", "-k", "x"], "write KEY=VALUE"),
    ],
)
def test_what_makes_no_schedule_is_wrong_usage_before_any_server_is_asked(arguments, why, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["schedules", "add", "--no-check", "--redis-url", "redis://127.0.0.1:1", *arguments])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert why in " ".join(told.replace("│", " ").split())


def info(**changes) -> ScheduleInfo:
    plain = {
        "name": "tidy", "task": "tidy_up", "queue": "q", "when": "*/5 * * * *", "timezone": "UTC", "missed": "once",
        "jitter": 0.0, "overlap": True, "declared": True, "versions": 1, "next_run": NOW + timedelta(hours=5),
        "arguments": ("s3cret",), "keyword_arguments": {"size": 5},
    }  # fmt: skip
    return ScheduleInfo(**plain | changes)


RAN = {"last_tick": NOW, "last_run_at": NOW, "last_job_id": "schedule:tidy:1", "runs": 7}


@pytest.mark.parametrize(
    ("changes", "outcome", "shown"),
    [
        ({}, None, "tidy */5 * * * * in "),
        (RAN, JobState.SUCCEEDED, "s ago succeeded"),
        (RAN, JobState.UNKNOWN, "s ago not kept"),
        ({"timezone": "Asia/Tokyo"}, None, "*/5 * * * * Asia/Tokyo"),
        ({"next_run": None, "paused_at": NOW - timedelta(hours=2)}, None, "paused 2h"),
        ({"orphaned": True}, None, "no worker has its code"),
        ({"unreadable": "why", "when": ""}, None, "cannot be read here"),
        ({"next_run": None}, None, "never"),
        ({"next_run": NOW - timedelta(hours=3)}, None, "due 3h"),
        ({"name": "\x1b[31mred"}, None, "\\x1b[31mred"),
    ],
)
def test_a_line_says_when_it_runs_next_or_why_not(changes, outcome, shown, capsys):
    show_list([(info(**changes), outcome)], arguments=False, as_json=False)
    out = capsys.readouterr().out
    assert shown in " ".join(out.split())
    assert "s3cret" not in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_colour_is_for_terminals(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    show_list([(info(**RAN), JobState.FAILED)], arguments=False, as_json=False)
    assert "\x1b[31mfailed" in capsys.readouterr().out


def test_none_at_all_is_said(capsys):
    show_list([], arguments=False, as_json=False)
    assert capsys.readouterr().out == "There are no schedules.\n"
    show_list([], arguments=False, as_json=True)
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("arguments", [True, False])
def test_arguments_are_shown_when_they_are_asked_for(arguments, capsys):
    for as_json in (True, False):
        show_list([(info(), None)], arguments=arguments, as_json=as_json)
        show_one(info(), None, arguments=arguments, as_json=as_json)
    assert ("s3cret" in capsys.readouterr().out) is arguments
    show_one(info(), None, arguments=True, as_json=False)
    assert 'tidy_up("s3cret", size=5)' in capsys.readouterr().out


def test_one_schedule_with_all_there_is_of_it(capsys):
    shown = info(**RAN, jitter=20, overlap=False, versions=2, timezone="Asia/Tokyo", when="0 12 1 * *",
                 next_run=datetime.fromisoformat("2027-01-01T03:00Z"))  # fmt: skip
    show_one(shown, JobState.SUCCEEDED, arguments=False, as_json=False)
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for row in (
        "Schedule tidy", "when 0 12 1 * * Asia/Tokyo", "from the code of workers", "overlap no", "jitter up to 20s",
        "versions 2, while a deploy is rolling", "Fri 2027-01-01 12:00:00 JST", "Mon 2027-02-01 12:00:00 JST",
        "outcome succeeded", "job schedule:tidy:1", "runs 7",
    ):  # fmt: skip
        assert row in rows


def test_json_has_every_field_and_the_outcome(capsys):
    show_one(info(**RAN), JobState.FAILED, arguments=True, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["last_outcome"] == "failed"
    assert document["next_run"] == info().next_run.isoformat()
    assert document.keys() == {*ScheduleInfo.__dataclass_fields__, "last_outcome"}
