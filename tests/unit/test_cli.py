"""The `barque` command without a server: help, reading what is typed, what reaches the streams, exit codes."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from rich.table import Table
from typer.testing import CliRunner

import cli.main
from cli import output, values
from cli.exit_codes import exit_code
from cli.main import app, main
from cli.origins import effective_settings
from cli.outcome import show_ending, wait_for
from cli.setting_files import env_text, toml_text
from cli.status_view import Overview, age, show_overview
from cli.task_check import check_call
from common import errors
from common.context import Context
from common.redis.inspect import QueueReport, WorkerReport
from common.redis.server_report import ServerReport
from common.setting_reader import reader
from common.settings import Settings, load_settings
from common.tasks import Call, task

ROOT = Path(__file__).parents[2]
COMMANDS = [
    *("worker", "enqueue", "result", "status", "pause", "resume", "abort", "reschedule"),
    *("schedules", "dead", "limits", "health", "redis", "config", "doctor", "init"),
    *("top", "tail", "workers", "queues"),
]


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    # typer reads these once, when it is imported; rich each time.
    monkeypatch.setattr("typer.rich_utils.FORCE_TERMINAL", None)


def run(*arguments):
    return CliRunner().invoke(app, list(arguments), prog_name="barque")


def run_main(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_each_command_teaches_by_example(self, command):
        result = run(command, "--help")

        assert result.exit_code == 0
        assert f"barque {command}" in result.stdout.partition("Examples:")[2]
        assert "--json" in result.stdout

    @pytest.mark.parametrize("command", [None, *COMMANDS])
    def test_it_fits_eighty_columns_and_shows_no_mark_up(self, command):
        text = run(*([command] if command else []), "--help").stdout

        assert max(map(len, text.splitlines())) <= 80
        assert "\\" not in text
        assert "\b" not in text

    def test_paragraphs_fill_the_lines_and_examples_keep_theirs(self):
        def command():
            r"""Do it.

            One paragraph
            on two lines.

            \b
            Examples:
              one
              two
            """

        assert cli.main._help(command) == "Do it.\n\nOne paragraph on two lines.\n\n\b\nExamples:\n  one\n  two"

    @pytest.mark.parametrize("command", [None, "demo", *COMMANDS])
    def test_a_flag_has_no_type_beside_it_and_an_option_has_what_it_takes(self, command):
        text = run(*([command] if command else []), "--help").stdout

        assert "<bool>" not in text
        assert re.search(r"--help +-h +Show this", text)
        without = {None, "redis", "demo", "init", "schedules", "dead", "limits"}
        assert command in without or re.search(r"--redis-url +URL +The server", text)

    def test_the_demo_says_which_server_it_uses(self):
        text = re.sub(r"\s+", " ", run("demo", "--help").stdout)

        assert "the server of --server or BARQUE_REDIS_URL" in text
        assert "an embedded Valkey where neither names one" in text

    def test_brackets_of_examples_survive(self):
        assert "[1, 2]" in run("enqueue", "--help").stdout
        assert "barque[embedded]" in run("redis", "--help").stdout

    def test_the_bare_command_shows_help(self):
        result = run()

        assert result.exit_code == 0
        assert "Exit codes:" in result.stdout
        assert all(re.search(rf"│ {command} ", result.stdout) for command in COMMANDS)

    def test_version(self):
        result = run("--version")

        assert result.exit_code == 0
        assert re.fullmatch(r"barque \S+.*, Python 3\.\d+\.\S+, arq 0\.28\S*\n", result.stdout)

    def test_help_imports_neither_the_engine_nor_a_client(self):
        heavy = ["arq", "aiohttp", "sqlalchemy", "pydantic", "redis", "msgspec", "structlog", "starlette", "jinja2"]
        code = (
            "import sys\nfrom cli.main import main\ntry:\n    main(['--help'])\nfinally:\n"
            f"    print(sorted(set({heavy}) & set(sys.modules)), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

        assert done.stderr.splitlines()[-1] == "[]"
        assert "Usage: barque" in done.stdout

    @pytest.mark.parametrize("command", [*COMMANDS, "dashboard"])
    def test_the_page_on_the_commands_has_every_option(self, command):
        page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
        options = [
            max(parameter.opts, key=len)
            for parameter in typer.main.get_command(app).commands[command].params
            if parameter.param_type_name == "option"
        ]

        assert f"## barque {command}\n" in page
        assert [option for option in options if option not in page] == []


class TestReadingWhatIsTyped:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("5", 5),
            ("-1.5", -1.5),
            ("true", True),
            ("null", None),
            ("[1, 2]", [1, 2]),
            ('{"a": {"b": []}}', {"a": {"b": []}}),
            ('"5"', "5"),
            ("Ada", "Ada"),
            ("https://example.com/?a=1", "https://example.com/?a=1"),
            ("007", "007"),
            ("NaN", "NaN"),
            ("-Infinity", "-Infinity"),
            ("True", "True"),
            ("{broken", "{broken"),
            ("", ""),
            ("[" * 100_000, "[" * 100_000),
        ],
    )
    def test_json_is_what_it_says_and_the_rest_is_text(self, text, value):
        found = values.as_value(text)

        assert found == value
        assert type(found) is type(value)

    def test_raw_takes_all_as_text(self):
        assert values.as_value("5", raw=True) == "5"
        assert values.pairs(["a=5", "b=[1]"], "-k", raw=True) == {"a": "5", "b": "[1]"}

    def test_pairs(self):
        assert values.pairs(["a=1", "b=x=y", "c="], "-k") == {"a": 1, "b": "x=y", "c": ""}
        assert values.pairs(None, "-k") == {}

    @pytest.mark.parametrize("given", [["s3cret"], ["=s3cret"]])
    def test_what_is_no_pair_is_refused_without_repeating_it(self, given):
        with pytest.raises(typer.BadParameter, match="KEY=VALUE") as refused:
            values.pairs(given, "-k")
        assert "s3cret" not in str(refused.value)

    def test_a_key_given_twice_is_refused(self):
        with pytest.raises(typer.BadParameter, match="a is given twice"):
            values.pairs(["a=1", "a=2"], "-k")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("90", 90), ("0", 0), ("1.5m", 90), ("90s", 90), ("2h", 7200), ("1d", 86400), ("500ms", 0.5), (" 3 ", 3)],
    )
    def test_lengths_of_time(self, text, expected):
        assert values.seconds(text) == pytest.approx(expected)

    @pytest.mark.parametrize("text", ["", "soon", "-5", "5 minutes", "1h30m", "inf", "nan", "1e9"])
    def test_what_is_no_length_of_time_is_refused(self, text):
        with pytest.raises(typer.BadParameter, match="no length of time"):
            values.seconds(text)

    def test_moments(self):
        assert values.moment("2030-01-31T08:00Z") == datetime(2030, 1, 31, 8, tzinfo=UTC)
        assert values.moment("2030-01-31 08:00+02:00") == datetime(2030, 1, 31, 6, tzinfo=UTC)
        local = values.moment("2030-01-31T08:00")
        assert local.tzinfo is not None
        assert local.replace(tzinfo=None) == datetime(2030, 1, 31, 8)  # noqa: DTZ001 - a wall clock's time

    @pytest.mark.parametrize("text", ["", "tomorrow", "2030-13-01"])
    def test_what_is_no_moment_is_refused(self, text):
        with pytest.raises(typer.BadParameter, match="ISO 8601"):
            values.moment(text)


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["nope"], "No such command"),
            (["enqueue"], "Missing argument"),
            (["enqueue", "greet", "--timeout", "3"], "--job-timeout"),
            (["result", "x", "--timeout", "3"], "--wait"),
            (["enqueue", "greet", "--delay", "soon"], "length of time"),
            (["redis", "--port", "99999"], "65535"),
            (["worker", "--shutdown-grace", "soon"], "length of time"),
        ],
    )
    def test_is_exit_code_2_and_on_stderr(self, arguments, says):
        result = run(*arguments)

        assert result.exit_code == 2
        assert result.stdout == ""
        assert says in re.sub(r"[\s│]+", " ", result.stderr)


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (errors.ConfigurationError("x"), 2),
            (errors.DuplicateTask("x"), 2),
            (errors.NoServerBinary("x"), 2),
            (errors.NotSerializable("x"), 2),
            (errors.PayloadTooLarge("x"), 2),
            (errors.ArgumentMismatch("x"), 2),
            (errors.RedisUnavailable("x"), 3),
            (errors.ResultTimeout("x", job_id="1"), 4),
            (errors.JobNotFound("x", job_id="1"), 1),
            (errors.PickleRefused("x"), 1),
            (errors.BarqueError("x"), 1),
            (ValueError("x"), None),
        ],
    )
    def test_exit_codes(self, error, code):
        assert exit_code(error) == code

    def test_a_wrong_setting_is_one_readable_line(self, monkeypatch, capsys):
        monkeypatch.setenv("BARQUE_CONCURRENCY", "many")

        assert run_main("config") == 2
        streams = capsys.readouterr()
        assert streams.out == ""
        assert re.fullmatch(r"barque: BARQUE_CONCURRENCY: .*\n", streams.err)

    @pytest.mark.parametrize(
        "url",
        [
            "redis://h:99999",
            "redis://u:s3cret@h:65536/0?socket_timeout=1",
            "rediss://[::1]:700000/1",
            f"redis://h:{'9' * 5000}",
        ],
    )
    def test_a_port_out_of_range_is_one_readable_line(self, url, monkeypatch, capsys):
        monkeypatch.setenv("BARQUE_REDIS_URL", url)

        assert run_main("status") == 2
        assert capsys.readouterr() == (
            "", "barque: BARQUE_REDIS_URL has a port out of range: the port must be 0 to 65535\n"
        )  # fmt: skip

    @pytest.mark.parametrize("url", ["redis://u:99999/s@h:1", "redis://h:6379/0?nothing", "redis://h:port"])
    def test_what_only_looks_like_a_port_is_not_called_one(self, url, monkeypatch, capsys):
        monkeypatch.setenv("BARQUE_REDIS_URL", url)

        assert run_main("status") == 2
        assert "cannot be taken apart" in capsys.readouterr().err

    @pytest.mark.parametrize("arguments", [["--debug", "config"], ["config", "--debug"]])
    def test_debug_shows_the_traceback_wherever_it_stands(self, arguments, monkeypatch, capsys):
        monkeypatch.setenv("BARQUE_CONCURRENCY", "many")

        assert run_main(*arguments) == 2
        assert "Traceback" in capsys.readouterr().err

    def test_debug_is_a_variable_too(self, monkeypatch, capsys):
        monkeypatch.setenv("BARQUE_CONCURRENCY", "many")
        monkeypatch.setenv("BARQUE_DEBUG", "1")

        assert run_main("config") == 2
        assert "Traceback" in capsys.readouterr().err

    def test_after_two_dashes_debug_is_an_argument(self):
        assert cli.main._take_debug(["enqueue", "x", "--", "--debug"]) == (["enqueue", "x", "--", "--debug"], False)
        assert cli.main._take_debug(["--debug", "enqueue", "--", "--debug"]) == (["enqueue", "--", "--debug"], True)

    def test_an_error_that_is_not_ours_is_called_a_bug(self, monkeypatch, capsys):
        def fail(*_, **__):
            raise ZeroDivisionError("inside")

        monkeypatch.setattr(cli.main, "app", fail)

        assert run_main("status") == 1
        error = capsys.readouterr().err
        assert "Traceback" in error
        assert "an error of Barque's own" in error

    def test_an_interrupt_is_130_and_quiet(self, monkeypatch, capsys):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(cli.main, "app", interrupt)

        assert run_main("status") == 130
        assert capsys.readouterr() == ("", "")


class TestOutput:
    def test_control_characters_are_shown_instead_of_obeyed(self):
        hostile = "\x1b[31mred\x07\x9b2J\u202eevil\r\ud800 [bold]é✓\ttab\nline"

        assert output.visible(hostile) == ("\\x1b[31mred\\x07\\x9b2J\\u202eevil\\r\\ud800 [bold]é✓\ttab\nline")

    def test_json_is_on_one_line_and_holds_no_control_character(self, capsys):
        value = {"a": "\x1b\x9b\u2028\u202e\ud800 é", "b": [1, None]}

        output.machine(value)

        line = capsys.readouterr().out
        assert line.count("\n") == 1
        assert not output._HARMFUL.search(line.removesuffix("\n"))
        assert "é" in line
        assert json.loads(line) == value

    def test_indented_json_keeps_its_lines(self, capsys):
        output.machine({"a": [1]}, indent=2)

        assert capsys.readouterr().out == '{\n  "a": [\n    1\n  ]\n}\n'

    def test_any_value_becomes_json(self):
        class Broken:
            def __repr__(self):
                raise RuntimeError("no")

        converted = output.to_jsonable(
            {
                "body": b"\x00\xff",
                1: float("inf"),
                "when": datetime(2030, 1, 1, tzinfo=UTC),
                "deep": ({"x": [b"a"]}, timedelta(1)),
                "broken": Broken(),
            }
        )

        assert converted.value == {
            "body": "AP8=",
            "1": None,
            "when": "2030-01-01T00:00:00+00:00",
            "deep": [{"x": ["YQ=="]}, "datetime.timedelta(days=1)"],
            "broken": "<Broken whose repr raised RuntimeError>",
        }
        assert converted.base64_at == ["$.body", "$.deep[0].x[0]"]
        json.dumps(converted.value, allow_nan=False)

    def test_no_mark_up_is_read_in_a_value(self, capsys):
        output.show(output.fields([("error", "[bold]x[/bold] [link=https://x]y[/link] :boom: [/]")]))

        assert capsys.readouterr().out == "  error  [bold]x[/bold] [link=https://x]y[/link] :boom: [/]\n"

    def test_colour_is_for_terminals(self, monkeypatch, capsys):
        output.show(output.styled("text", "red"))
        assert capsys.readouterr().out == "text\n"
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        output.show(output.styled("text", "red"))
        assert "\x1b[31m" in capsys.readouterr().out
        monkeypatch.setenv("NO_COLOR", "1")
        output.show(output.styled("text", "red"))
        assert "\x1b[31m" not in capsys.readouterr().out

    def test_lines_end_without_blanks(self, capsys):
        table = Table(box=None)
        table.add_column()
        table.add_row("short")
        table.add_row("much longer")

        output.show(table)

        assert all(line == line.rstrip() for line in capsys.readouterr().out.splitlines())

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0.04, "0.0s"), (9.9, "9.9s"), (10, "10s"), (125, "2m 5s"), (3600, "1h 0m"), (90061, "1d 1h")],
    )
    def test_ages(self, seconds, text):
        assert age(seconds) == text


class TestOverview:
    def overview(self, *, queued: int = 0) -> Overview:
        worker = WorkerReport(
            worker="a-host-with-quite-a-long-name-in-a-cluster-1234-abcdef",
            host="h",
            pid=1234,
            version="1",
            queues=("arq:queue",),
            concurrency=1_000_000,
            started_ms=0,
            reported_ms=90_061_000,
            running=999_999,
            succeeded=123_456_789,
            retried=1_234_567,
            failed=1_234_567,
        )
        queues = [
            QueueReport("arq:queue", queued, 1, 12.0 if queued else None),
            QueueReport("a-queue-with-a-name-\x1b[2J-nobody-should-give" * 2, 123_456_789, 0, 400_000.0),
        ]
        return Overview("redis://h:1/0", ServerReport("Valkey", "9.1", 2**20, 0, 1), queues, [worker])

    def test_numbers_stay_whole_at_eighty_columns(self, capsys):
        show_overview(self.overview(queued=5), as_json=False)

        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= 80
        assert "\x1b" not in text
        for whole in ("123456789", "1234567", "999999/1000000", "1d 1h", "12s ago"):
            assert whole in text

    def test_json_says_who_serves_a_queue(self, capsys):
        show_overview(self.overview(queued=5), as_json=True)

        document = json.loads(capsys.readouterr().out)
        assert document["server"]["version"] == "9.1"
        assert [queue["workers"] for queue in document["queues"]] == [1, 0]
        assert document["queues"][0]["queued"] == 5
        assert document["workers"][0]["running"] == 999_999


@task
async def cli_typed(ctx: Context, text: str | None, *more: str, parts: list[str] = [], number: int = 0) -> None:  # noqa: B006
    pass


@task
async def cli_two(ctx: Context, name: str, *, after: float = 0.0) -> None:
    pass


class TestHints:
    RAW = "What is JSON is not read as text: add --raw"
    KEYWORD = "keyword arguments go as `-k "

    def refusal(self, monkeypatch, made, *arguments, **keywords) -> str:
        monkeypatch.setattr("cli.task_check.import_tasks", lambda _: {made.name: made})
        with pytest.raises(errors.ArgumentMismatch, match=r"Nothing was enqueued$") as refused:
            check_call(Call(made.name, *arguments, **keywords), Settings(), must_import=True)
        return str(refused.value)

    @pytest.mark.parametrize(("given", "keywords"), [((5,), {}), ((True,), {}), (("a", 5), {}), (({"a": 1},), {})])
    def test_raw_is_for_json_where_text_was_expected(self, monkeypatch, given, keywords):
        assert self.RAW in self.refusal(monkeypatch, cli_typed, *given, **keywords)

    @pytest.mark.parametrize(
        ("given", "keywords"),
        [(("a",), {"number": "x"}), (("a",), {"number": 1.5}), (("a",), {"parts": [5]}), ((), {}), ((), {"none": 5})],
    )
    def test_and_for_nothing_else(self, monkeypatch, given, keywords):
        assert self.RAW not in self.refusal(monkeypatch, cli_typed, *given, **keywords)

    def test_a_keyword_without_its_option_is_shown_how_without_its_value(self, monkeypatch):
        said = self.refusal(monkeypatch, cli_two, "Ada", "after=s3cret")

        assert f"got 2; {self.KEYWORD}after=…`. Nothing" in said
        assert "s3cret" not in said
        assert f"{self.KEYWORD}other=…`" in self.refusal(monkeypatch, cli_two, "Ada", "other=2")
        assert self.KEYWORD not in self.refusal(monkeypatch, cli_two, "Ada", "https://example.com/?a=1")

    def test_one_that_the_task_takes_as_text_is_pointed_out(self, monkeypatch, capsys):
        monkeypatch.setattr("cli.task_check.import_tasks", lambda _: {"cli_two": cli_two})
        check_call(Call("cli_two", "after=2"), Settings(), must_import=True)

        assert "after=… travels as a positional argument" in capsys.readouterr().err
        check_call(Call("cli_two", "other=2"), Settings(), must_import=True)
        assert capsys.readouterr().err == ""


class TestTaskCheck:
    def check(self, *arguments, tasks=("workers.tasks",), must_import=False, **keywords):
        return check_call(Call(*arguments, **keywords), Settings(tasks=tasks), must_import=must_import)

    def test_a_right_call_is_bound_to_its_task(self):
        assert self.check("checksum_file", "x").task.name == "checksum_file"

    def test_a_typo_is_refused_with_the_nearest_name(self):
        with pytest.raises(errors.ConfigurationError, match="did you mean fetch_url"):
            self.check("fetch_ulr", "https://example.com")

    def test_a_name_like_no_other_is_refused_with_all_there_are_and_the_way_out(self):
        with pytest.raises(errors.ConfigurationError, match=r"there are: .*checksum_file.*--no-check"):
            self.check("zzz")

    def test_arguments_are_checked_as_the_worker_does_and_never_repeated(self):
        with pytest.raises(errors.ArgumentMismatch, match=r"Expected `str`, got `int`.*--raw") as refused:
            self.check("checksum_file", 91827364)
        assert "91827364" not in str(refused.value)
        with pytest.raises(errors.ArgumentMismatch, match="is missing"):
            self.check("checksum_file")

    def test_tasks_that_cannot_be_imported_are_not_checked_and_said_so(self, capsys):
        call = self.check("theirs", 1, tasks=("no_such_module",))

        assert call.task is None
        assert "no_such_module" in capsys.readouterr().err

    def test_tasks_named_on_the_command_line_must_import(self):
        with pytest.raises(errors.ConfigurationError, match="no_such_module"):
            self.check("theirs", tasks=("no_such_module",), must_import=True)

    def test_an_argument_without_a_form_on_the_wire_is_refused(self):
        with pytest.raises(errors.NotSerializable, match=r"arguments\[0\] is an integer past 64 bits"):
            self.check("checksum_file", 10**30)


class TestConfig:
    def settings(self, **options):
        return {each.name: each for each in effective_settings(load_settings(**options), options)}

    def test_each_value_says_where_it_comes_from(self, monkeypatch, tmp_path):
        file = tmp_path / ".env"
        file.write_text("BARQUE_LEASE=20\nBARQUE_CONCURRENCY=7\nBARQUE_TASKS=from_file\n")
        monkeypatch.setattr("common.setting_names.ENV_FILE", file)
        monkeypatch.setenv("BARQUE_CONCURRENCY", "8")
        monkeypatch.setenv("BARQUE_QUEUES", "low")

        found = self.settings(queues="high,low")

        assert {
            name: (found[name].value, found[name].source) for name in ("lease", "concurrency", "tasks", "queues")
        } == {
            "lease": (20.0, ".env"),
            "concurrency": (8, "environment"),
            "tasks": (["from_file"], ".env"),
            "queues": (["high", "low"], "option"),
        }
        assert found["poll_delay"].source == "default"

    @pytest.mark.parametrize("arguments", [[], ["--explain"], ["--json"]])
    def test_no_secret_is_shown(self, arguments, monkeypatch):
        secrets = {
            "BARQUE_REDIS_URL": "redis://ada:s3cret@db.example:6379/0?password=s3cret",
            "BARQUE_REDIS_PASSWORD": "s3cret",
            "BARQUE_REDIS_SENTINEL_PASSWORD": "s3cret",
            "BARQUE_WEBHOOK_SECRET": "s3cret",
            "BARQUE_DATABASE_URL": "postgresql://ada:s3cret@db.example/app",
        }
        for name, value in secrets.items():
            monkeypatch.setenv(name, value)

        result = run("config", *arguments)

        assert result.exit_code == 0
        assert "db.example:6379" in result.stdout
        assert "***" in result.stdout
        assert "s3cret" not in result.output

    def test_the_table_fits_and_lists_every_variable_whole(self):
        text = run("config").stdout

        assert max(map(len, text.splitlines())) <= 80
        assert all(f"BARQUE_{name.upper()}" in text for name in Settings.names())

    def test_a_value_too_long_for_its_column_is_in_one_piece(self, monkeypatch):
        monkeypatch.setenv("BARQUE_TASKS", "a.module.of.tasks,another.module.of.tasks,and_a_third_one")
        lines = run("config").stdout.splitlines()

        assert "  sqlite+aiosqlite:///barque-data/barque.sqlite3" in lines
        at = lines.index("  a.module.of.tasks,another.module.of.tasks,and_a_third_one")
        assert re.fullmatch(r"BARQUE_TASKS +environment", lines[at - 1])

    def test_explain_has_a_blank_line_between_settings_and_nowhere_else(self):
        lines = run("config", "--explain").stdout.splitlines()

        heads = [index for index, line in enumerate(lines) if line.startswith("BARQUE_")]
        assert [index for index, line in enumerate(lines) if not line] == [index - 1 for index in heads[1:]]

    def test_explain_gives_every_description(self):
        text = re.sub(r"\s+", " ", run("config", "--explain").stdout)

        assert all(field.description in text for field in reader(Settings).model_fields.values())

    def test_json_has_numbers_as_numbers(self, monkeypatch):
        monkeypatch.setenv("BARQUE_CONCURRENCY", "8")
        settings = json.loads(run("config", "--json").stdout)["settings"]

        assert settings.keys() == reader(Settings).model_fields.keys()
        assert settings["concurrency"] == {
            "variable": "BARQUE_CONCURRENCY",
            "key": "concurrency",
            "value": 8,
            "from": "environment",
            "file": None,
            "line": None,
            "default": 100,
            "description": reader(Settings).model_fields["concurrency"].description,
        }
        assert settings["accept_pickle"]["value"] is False
        assert settings["webhook_secret"]["value"] is None

    def test_a_word_lists_what_is_about_it_of_workers_and_of_the_dashboard(self):
        result = run("config", "--explain", "passw")

        heads = [line for line in result.stdout.splitlines() if line.startswith("BARQUE_")]
        assert {"BARQUE_REDIS_PASSWORD", "BARQUE_DASHBOARD_PASSWORD"} <= {*heads}
        assert "BARQUE_LEASE" not in heads
        assert "dashboard.password\n" in result.stdout
        assert list(json.loads(run("config", "redis-tls-ca", "--json").stdout)["settings"]) == ["redis_tls_ca"]

    def test_a_word_that_nothing_is_about_comes_with_the_nearest_setting(self):
        result = run("config", "leese")

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "no setting has 'leese' in its name or meaning; did you mean lease?\n"

    def test_a_file_is_named_with_its_line(self, monkeypatch, tmp_path):
        (tmp_path / "ours.toml").write_text("threads = 4\nlease = '20s'\n[dashboard]\nport = 99\n")
        monkeypatch.setenv("BARQUE_CONFIG", str(tmp_path / "ours.toml"))

        assert re.search(r"^BARQUE_LEASE +20 +ours.toml$", run("config").stdout, re.MULTILINE)
        settings = json.loads(run("config", "port", "--json").stdout)["settings"]
        assert settings["dashboard.port"].items() >= {"from": "toml", "line": 4, "value": 99}.items()
        assert settings["dashboard.port"]["file"] == str(tmp_path / "ours.toml")
        said = re.sub(r"\s+", "", run("config", "--explain", "lease").stdout)
        assert f"value20from{tmp_path}/ours.toml,line2means" in said

    @pytest.mark.parametrize(("mode", "told"), [(0o644, True), (0o640, False)])
    def test_a_secret_in_a_file_that_everybody_may_read_is_pointed_out_and_not_shown(
        self, monkeypatch, tmp_path, mode, told
    ):
        file = tmp_path / "ours.toml"
        file.write_text("redis_url = 'redis://u:s3cret@h'\nlease = 20\n[dashboard]\ntoken = 's3crets3crets3crets3'\n")
        file.chmod(mode)
        monkeypatch.setenv("BARQUE_CONFIG", str(file))

        for arguments, named in ((["--explain"], "redis_url"), (["redis"], "redis_url, dashboard.token")):
            result = run("config", *arguments)
            assert "s3cret" not in result.output
            said = f"{file} holds {named} and can be read by everybody on this machine: chmod o= {file}\n"
            assert result.stderr == (said if told else "")

    def test_a_file_to_start_from_is_printed_as_it_is(self):
        assert run("config", "--toml").stdout == toml_text()
        assert run("config", "--env").stdout == env_text()
        assert run("config", "--env", "--toml").exit_code == 2

    def test_a_misspelt_variable_is_pointed_out(self, monkeypatch):
        monkeypatch.setenv("BARQUE_CONCURENCY", "8")
        monkeypatch.setenv("BARQUE_DATABASE_URL_REPORTS", "sqlite://")
        monkeypatch.setenv("BARQUE_IMAGE", "barque:dev")

        result = run("config", "--json")
        assert result.stderr == "BARQUE_CONCURENCY is no setting and does nothing; did you mean BARQUE_CONCURRENCY?\n"
        json.loads(result.stdout)


class TestAResultThatCannotBeRead:
    WHY = errors.PickleRefused("it is a pickle; set BARQUE_ACCEPT_PICKLE=true")

    async def ending(self):
        class Unreadable:
            job_id = "p"

            async def result(self, timeout):
                raise TestAResultThatCannotBeRead.WHY

        return await wait_for(Unreadable(), None)

    async def test_it_is_exit_code_1_with_the_reason_and_not_a_failure(self, capsys):
        assert show_ending(await self.ending(), as_json=False) == 1
        assert capsys.readouterr() == (
            "", f"Job p has ended, but its result cannot be read here: {self.WHY}\n"
        )  # fmt: skip

    async def test_for_a_program_too(self, capsys):
        assert show_ending(await self.ending(), as_json=True) == 1
        assert json.loads(capsys.readouterr().out) == {
            "job_id": "p",
            "state": "ended",
            "error": {"type": "common.errors.PickleRefused", "message": str(self.WHY), "traceback": ""},
        }


def test_the_current_folder_is_looked_in_last(monkeypatch, tmp_path):
    from cli.options import add_current_folder

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = sys.path.copy()

    add_current_folder()
    add_current_folder()

    assert sys.path == [*before, os.fspath(tmp_path)]
