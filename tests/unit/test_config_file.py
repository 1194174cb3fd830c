"""barque.toml: common/config_file.py by itself, and what common/setting_sources.py makes of it."""

from pathlib import Path

import pytest

from common.config_file import find_config_file, read_config_file
from common.errors import ConfigurationError
from common.setting_reader import reader
from common.setting_sources import origins
from common.settings import Settings, load_settings
from dashboard.settings import load_dashboard_settings

SECRET = "hunter2hunter2"
NO_NUMBER = "is no whole number: give a whole number from 1 to 1000000"
NO_END = "Expected newline or end of document after a statement"
MISPLACED = (
    "lease stands in the table [queues], which holds names of its own: move it above the first [table]"
    ' (or write queues = ["lease=…"], if it is one of them)'
)


@pytest.fixture
def write(monkeypatch, tmp_path):
    """Return what writes barque.toml into the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("common.setting_names.CONFIG_FILE", "barque.toml")

    def write(text, name="barque.toml"):
        Path(name).write_text(text, "utf-8")

    return write


def refusal(load=load_settings):
    with pytest.raises(ConfigurationError) as refused:
        load()
    message = str(refused.value)
    assert "\n" not in message
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    return message


class TestValues:
    def test_each_kind_of_value_stands_as_what_it_is(self, write):
        write(
            'tasks = ["my_app.tasks", "other"]\nqueues = ["high", "low"]\nconcurrency = 500\ntraces = true\n'
            'keep_result = "2h"\nlease = 20\njob_timeout = 0.5\nlog_file = "x/y.log"\nmetrics_port = 9464\n'
            'redis_password = "s"\n'
        )
        settings = load_settings()
        assert settings.tasks == ("my_app.tasks", "other")
        assert (settings.queues, settings.concurrency, settings.traces) == (("high", "low"), 500, True)
        assert (settings.keep_result, settings.lease, settings.job_timeout) == (7200, 20, 0.5)
        assert (settings.log_file, settings.metrics_ports) == (Path("x/y.log"), range(9464, 9465))
        assert settings.redis_password.get_secret_value() == "s"

    @pytest.mark.parametrize(
        "text", ["[queues]\nhigh = 6\nlow = 1\n", "queues = { high = 6, low = 1 }", 'queues = ["high=6", "low"]']
    )
    def test_queues_have_weights_as_a_table_or_as_a_variable_has_them(self, write, text):
        write(text)
        assert load_settings().queues.by_name() == {"high": 6, "low": 1}

    def test_a_list_may_stand_as_a_variable_has_it(self, write):
        write('tasks = "one,two"')
        assert load_settings().tasks == ("one", "two")

    def test_the_dashboard_has_a_table_of_its_own(self, write):
        write('concurrency = 7\n[dashboard]\nport = 9999\nallowed_hosts = ["a", "b"]\ntasks = ["shop"]\n')
        given = load_dashboard_settings()
        assert (given.port, given.allowed_hosts, given.tasks) == (9999, ("a", "b"), ("shop",))
        assert load_settings().tasks == ("workers.tasks",)

    def test_a_mark_of_an_editor_at_its_beginning_is_none_of_its_text(self, write):
        write("\ufefflease = 20\n")
        assert load_settings().lease == 20


class TestRank:
    def test_arguments_then_environment_then_dotenv_then_the_file_then_defaults(self, write, monkeypatch):
        monkeypatch.setattr("common.setting_names.ENV_FILE", ".env")
        write("concurrency = 1\nlease = 1\nthreads = 1\nmax_attempts = 1\n")
        write("BARQUE_CONCURRENCY=2\nBARQUE_LEASE=2\nBARQUE_THREADS=2\n", ".env")
        monkeypatch.setenv("BARQUE_CONCURRENCY", "3")
        monkeypatch.setenv("BARQUE_LEASE", "3")
        settings = load_settings(concurrency=4)
        assert (settings.concurrency, settings.lease, settings.threads, settings.max_attempts) == (4, 3, 2, 1)
        assert settings.poll_delay == 0.5

        found = origins(reader(Settings), ["concurrency"])
        kinds = {name: found[name].kind for name in ("concurrency", "lease", "threads", "max_attempts", "poll_delay")}
        assert [*kinds.values()] == ["option", "environment", ".env", "toml", "default"]
        assert found["threads"].place == ".env: BARQUE_THREADS"
        assert found["max_attempts"].place == "barque.toml, line 4: max_attempts"

    def test_a_class_that_is_called_reads_it_as_well(self, write):
        write("lease = 20")
        assert Settings().lease == 20


class TestWhere:
    def test_none_is_no_error(self, write):
        assert load_settings().lease == 10

    @pytest.mark.parametrize("in_dotenv", [False, True])
    def test_a_variable_names_another_file(self, write, monkeypatch, tmp_path, in_dotenv):
        (tmp_path / "conf").mkdir()
        write("lease = 5")
        write("lease = 20", "conf/ours.toml")
        if in_dotenv:
            monkeypatch.setattr("common.setting_names.ENV_FILE", ".env")
            write("BARQUE_CONFIG=conf/ours.toml", ".env")
        else:
            monkeypatch.setenv("BARQUE_CONFIG", "conf/ours.toml")
        assert load_settings().lease == 20
        assert origins(reader(Settings), [])["lease"].file == Path("conf/ours.toml")

    def test_and_empty_says_that_there_is_none(self, write, monkeypatch):
        write("lease = 20")
        monkeypatch.setenv("BARQUE_CONFIG", "")
        assert load_settings().lease == 10

    def test_one_that_is_named_has_to_be_there(self, write, monkeypatch, tmp_path):
        monkeypatch.setenv("BARQUE_CONFIG", "no.toml")
        assert refusal() == f"BARQUE_CONFIG: there is no file no.toml (in {tmp_path})"

    def test_a_home_folder_is_found(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "b.toml").write_text("")
        assert find_config_file("~/b.toml", None) == tmp_path / "b.toml"


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("\nlease = 0.5", "line 2: lease: 0.5s is out of range: give a time from 1s to 1h"),
            ('lease = "soon"', "line 1: lease: 'soon' is no length of time: write seconds, or 500ms, 90s, 5m, 2h, 1d"),
            ("concurrency = 1.5", f"line 1: concurrency: '1.5' {NO_NUMBER}"),
            ("concurrency = true", f"line 1: concurrency: 'true' {NO_NUMBER}"),
            ("lease = true", "line 1: lease: 'true' is no length of time: write seconds, or 500ms, 90s, 5m, 2h, 1d"),
            ("traces = 3", "line 1: traces: '3' is neither true nor false"),
            ('payload_format = "x"', "line 1: payload_format: 'x' is none of its values: give msgpack or pickle"),
            ("redis_password = 5", "line 1: redis_password: give text, in quotes"),
            ("log_file = 5", "line 1: log_file: give a path, in quotes"),
            ("tasks = [1, 2]", 'line 1: tasks: give a list of texts, in quotes: ["a", "b"]'),
            ("tasks = 1", 'line 1: tasks: give a list of texts, in quotes: ["a", "b"]'),
            ("[queues]", "line 1: queues: name at least one queue"),
            ("dashboard = 1", "line 1: dashboard is a table: write [dashboard], and its keys below"),
            ("leese = 1", "line 1: leese is no setting; did you mean lease?"),
            ("redis-url = 1", "line 1: redis-url is no setting; did you mean redis_url?"),
            ("BARQUE_LEASE = 1", "line 1: BARQUE_LEASE is no setting; did you mean lease?"),
            ("[redis]\nurl = 1", "line 1: redis is no setting; did you mean redis_url?"),
            ("[dashbord]\nport = 1", "line 1: dashbord is no setting; did you mean dashboard?"),
            ("xyzzy = 1", "line 1: xyzzy is no setting; none is like it"),
            ("[tool.barque]\nlease = 1", "line 1: settings stand at the top of this file, in no table [tool]"),
            ("[queues]\nhigh = 1\nlease = 5", f"line 3: {MISPLACED}"),
            ("\nlease = 5m", f"line 2, column 10: no TOML: {NO_END} (text stands in quotes)"),
            ("lease = \n", "line 1, column 9: no TOML: Invalid value (text stands in quotes)"),
        ],
    )  # fmt: skip
    def test_file_line_and_key_and_what_is_right(self, write, text, says):
        write(text)
        assert refusal() == f"barque.toml, {says}"

    def test_a_queue_of_no_weight(self, write):
        write("[queues]\nhigh = 0\n")
        assert refusal().startswith("barque.toml, line 1: queues: 'high': 0 is no weight")
        write("[queues]\nhigh = true\n")
        assert refusal().startswith("barque.toml, line 1: queues: 'high=true': write a queue's weight as name=3")

    def test_all_that_is_wrong_is_told_at_once(self, write, monkeypatch):
        write("leese = 1\nlease = 1\nthread = 1\n")
        assert refusal().count("did you mean") == 2
        write("lease = 0\nthreads = 0\n")
        monkeypatch.setenv("BARQUE_CONCURRENCY", "0")
        assert all(place in refusal() for place in ("line 1: lease: ", "line 2: threads: ", "BARQUE_CONCURRENCY: "))

    def test_a_variable_that_wins_is_the_one_that_is_told_of(self, write, monkeypatch):
        write("lease = 5")
        monkeypatch.setenv("BARQUE_LEASE", "0")
        assert refusal().startswith("BARQUE_LEASE: 0s is out of range")

    def test_the_dashboards_table_is_checked_by_who_reads_it(self, write):
        write("[dashboard]\nprt = 1\n")
        assert load_settings().lease == 10
        assert refusal(load_dashboard_settings).startswith(
            "barque.toml, line 2: prt is no setting of [dashboard]; did you mean port?"
        )
        write("[dashboard]\nport = 70000\n")
        assert refusal(load_dashboard_settings).startswith("barque.toml, line 2: dashboard.port: '70000' is out of")

    def test_what_is_no_text_or_no_file(self, write, tmp_path):
        (tmp_path / "barque.toml").write_bytes(b"\xff")
        assert refusal() == "barque.toml cannot be read: it is not UTF-8"
        (tmp_path / "barque.toml").unlink()
        (tmp_path / "barque.toml").mkdir()
        assert refusal() == "barque.toml cannot be read: Is a directory"

    @pytest.mark.parametrize(
        "text",
        ['redis_url = "http://u:{}@h"', "redis_pasword = '{}'", "redis_url = ['{}']", 'redis_password = ["{}"]',
         "[redis]\npassword = '{}'", "redis_password = {}"],
    )  # fmt: skip
    def test_no_secret_is_quoted(self, write, text):
        write(text.replace("{}", SECRET))
        assert SECRET not in refusal()


@pytest.mark.parametrize(
    ("text", "key", "table", "line"),
    [
        ("a = 1\nlease = 2\n", "lease", None, 2),
        ('"lease" = 2\n', "lease", None, 1),
        ("a = 1\n\n[queues]\nhigh = 1\n", "queues", None, 3),
        ("queues.high = 1\nqueues.low = 1\n", "queues", None, 1),
        ("[dashboard]\nport = 1\n", "port", "dashboard", 2),
        ("dashboard.port = 1\n", "port", "dashboard", 1),
        ("a = 1\ndashboard = { port = 1 }\n", "port", "dashboard", 2),
        ('a = """\nlease = 1\n"""\nlease = 2\n', "lease", None, None),
        ("port = 1\n[dashboard]\nport = 2\n", "port", "dashboard", 3),
    ],
)
def test_the_line_of_a_key(tmp_path, text, key, table, line):
    path = tmp_path / "barque.toml"
    path.write_text(text)
    assert read_config_file(path).line(key, table) == line
