"""common/settings.py: names, defaults, and one readable line for each wrong value."""

import copy
import pickle
import re
from pathlib import Path

import pytest

from common.durations import as_duration, read_seconds
from common.errors import ConfigurationError
from common.setting_names import misspelt
from common.setting_reader import reader
from common.settings import DEFAULT_QUEUE, Settings, load_settings, mask_url, settings_for_process

SECRET = "hunter2"
NO_TIME = "is no length of time: write seconds, or 500ms, 90s, 5m, 2h, 1d"

WRONG = {
    "REDIS_URL": ["http://host", "host:6379", ""],
    "REDIS_CONNECT_TIMEOUT": ["0", "-1", "soon", "inf", "nan"],
    "REDIS_TLS_VERIFY": ["maybe"],
    "DURABLE": ["maybe"],
    "DURABLE_REPLICAS": ["-1", "101", "two"],
    "QUEUES": ["", " , ", "high=six", "high=0", "high=-1", "high=1.5", "=3", "high=2,high=3", "high=", "high=1000001"],
    "QUEUE_AGING": ["-1", "nan", "366d", "soon"],
    "CONCURRENCY": ["0", "many", "1.5", "1000001"],
    "THREADS": ["0", "many", "10001"],
    "PROCESSES": ["-1", "1001", "four", "1.5"],
    "MAX_JOBS": ["-1", "many"],
    "MAX_MEMORY": ["-1", "1.5X", "much"],
    "CPU_AFFINITY": ["perhaps"],
    "JOB_TIMEOUT": ["0", "-5", "nan", "inf"],
    "MAX_ATTEMPTS": ["0", "x"],
    "KEEP_RESULT": ["-1", "nan", "inf", "1 hour", "366d"],
    "KEEP_LOGS": ["-1", "many", "1001"],
    "DEAD_KEEP": ["0", "nan", "inf", "366d", "a week"],
    "DEAD_LIMIT": ["-1", "many", "10000001"],
    "LEASE": ["0.5", "3601", "nan", "2h", "999ms"],
    "UNKNOWN_TASK_WAIT": ["-1", "31d", "nan"],
    "START_WAIT": ["-1", "inf"],
    "BLOCK_LIMIT": ["0", "0.5", "nan", "never"],
    "MIDDLEWARE": ["timing", "my_app/timing.py:timing"],
    "TASKS": ["my_tasks.py", "my_app/tasks", "a,b.py"],
    "SHUTDOWN_GRACE": ["-1", "nan", "inf"],
    "POLL_DELAY": ["0", "-1"],
    "ACCEPT_PICKLE": ["perhaps"],
    "BURST_WAITS": ["perhaps"],
    "SIGNING_KEYS": ["", "a:short", "no-id-but-a-long-enough-secret-of-many-letters"],
    "ACCEPT_UNSIGNED": ["perhaps"],
    "PAYLOAD_FORMAT": ["json", "MSGPACK"],
    "MAX_PAYLOAD_BYTES": ["0", "1MB"],
    "MAX_RESULT_BYTES": ["0", "1023", "1MB"],
    "STREAM_MAX_ITEMS": ["0", "many"],
    "STREAM_MAX_BYTES": ["0", "1MB"],
    "STREAM_MAX_ITEM_BYTES": ["0", "1MB"],
    "METRICS_PORT": ["-1", "65536", "http", "9464/tcp"],
    "TRACES": ["perhaps"],
    "TRACE_PARENT": ["parent", "CHILD"],
    "TRACE_BAGGAGE": ["perhaps"],
    "SENTRY": ["perhaps"],
    "SENTRY_RETRIES": ["perhaps"],
    "SENTRY_ARGUMENTS": ["perhaps"],
    "LOG_CONTEXT": ["request-id", "a b", "request_id,level", "trace_id", "job_id"],
    "LOG_LEVEL": ["info", "TRACE"],
    "LOG_FORMAT": ["xml"],
    "HTTP_ALLOW_PRIVATE": ["?"],
    "HTTP_MAX_BYTES": ["0"],
    "HTTP_DOWNLOAD_MAX_BYTES": ["-1"],
    "HTTP_TIMEOUT": ["0"],
    "COMPUTE_PROCESSES": ["-1", "1001"],
    "COMPUTE_MAX_JOBS": ["-1"],
    "COMPUTE_MAX_MEMORY": ["-1", "1GB"],
}
# Any text is a fair value of these.
FREE = {
    "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_SENTINELS", "REDIS_SENTINEL_SERVICE", "REDIS_SENTINEL_USERNAME",
    "REDIS_SENTINEL_PASSWORD", "REDIS_TLS_CA", "REDIS_TLS_CERT", "REDIS_TLS_KEY", "LOG_FILE", "DATA_ROOT",
    "WEBHOOK_SECRET", "DATABASE_URL", "METRICS_HOST", "SENTRY_DSN",
}  # fmt: skip


def test_every_setting_is_in_the_tables_above():
    assert {name.upper() for name in Settings.names()} == WRONG.keys() | FREE


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_one_line_that_names_the_variable(monkeypatch, name, value):
    monkeypatch.setenv(f"BARQUE_{name}", value)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    message = str(raised.value)
    assert re.match(rf"BARQUE_{name}: \S", message), message
    assert "\n" not in message
    for words in ("pydantic", "Value error", "Input", "Tuple", "parse", "valid"):
        assert words not in message
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CONCURRENCY", "many", "'many' is no whole number: give a whole number from 1 to 1000000"),
        ("CONCURRENCY", "1.5", "'1.5' is no whole number: give a whole number from 1 to 1000000"),
        ("CONCURRENCY", "0", "'0' is out of range: give a whole number from 1 to 1000000"),
        ("CONCURRENCY", "9" * 5000, f"'{'9' * 40}…' is no whole number: give a whole number from 1 to 1000000"),
        ("MAX_ATTEMPTS", "0", "'0' is out of range: give a whole number from 1 up"),
        ("QUEUES", "", "name at least one queue"),
        ("TASKS", "my_tasks.py", "'my_tasks.py' is a file; give a module name, without .py: my_tasks"),
        ("TASKS", "./my_app/tasks.py", "'./my_app/tasks.py' is a file; give a module name, without .py: my_app.tasks"),
        ("JOB_TIMEOUT", "soon", f"'soon' {NO_TIME}"),
        ("JOB_TIMEOUT", "-1", f"'-1' {NO_TIME}"),
        ("JOB_TIMEOUT", "0", "0s is out of range: give a time above 0s, at most 365d"),
        ("LEASE", "500ms", "0.5s is out of range: give a time from 1s to 1h"),
        ("KEEP_RESULT", "366d", "366d is out of range: give a time from 0s to 365d"),
        ("ACCEPT_PICKLE", "perhaps", "'perhaps' is neither true nor false"),
        ("PAYLOAD_FORMAT", "json", "'json' is none of its values: give msgpack or pickle"),
        ("REDIS_URL", "x", "give a URL such as redis://host:6379/0, rediss://… (TLS) or unix:///path/to.sock"),
    ],
)
def test_what_is_wrong_and_what_is_right(monkeypatch, name, value, says):
    monkeypatch.setenv(f"BARQUE_{name}", value)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert str(raised.value) == f"BARQUE_{name}: {says}"


def test_an_override_of_a_wrong_kind_is_told_in_the_same_way():
    with pytest.raises(ConfigurationError, match=r"^BARQUE_LEASE: '\[\]' is no number$"):
        load_settings(lease=[])


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan"), 0, 1e300])
def test_an_override_out_of_range_is_told_in_the_same_way(value):
    with pytest.raises(ConfigurationError, match=r"^BARQUE_JOB_TIMEOUT: \S+ is out of range: give a time above 0s"):
        load_settings(job_timeout=value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("0.5", 0.5), ("500ms", 0.5), ("90s", 90), ("5m", 300), ("1.5m", 90), ("2h", 7200), ("1d", 86400)],
)
def test_a_time_takes_units_and_a_plain_number_is_seconds(monkeypatch, text, seconds):
    monkeypatch.setenv("BARQUE_JOB_TIMEOUT", text)
    monkeypatch.setenv("BARQUE_SHUTDOWN_GRACE", f" {text} ")
    settings = load_settings()
    assert (settings.job_timeout, settings.shutdown_grace) == (seconds, seconds)


def test_every_setting_that_is_a_time_takes_units(monkeypatch):
    times = {name for name, field in reader(Settings).model_fields.items() if field.annotation is float}
    assert times >= {"redis_connect_timeout", "job_timeout", "keep_result", "lease", "shutdown_grace", "poll_delay"}
    for name in times:
        monkeypatch.setenv(f"BARQUE_{name.upper()}", "2s")
    settings = load_settings()
    assert {getattr(settings, name) for name in times} == {2.0}


@pytest.mark.parametrize("seconds", [0, 0.5, 1, 59, 60, 90, 3600, 5400, 86400, 31536000])
def test_a_time_that_is_shown_can_be_read(seconds):
    assert read_seconds(as_duration(seconds)) == seconds


def test_a_dotenv_file_that_is_no_text_is_one_readable_line(monkeypatch, tmp_path):
    file = tmp_path / ".env"
    file.write_bytes(b"BARQUE_LEASE=\xff\n")
    monkeypatch.setattr("common.setting_names.ENV_FILE", file)
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read: it is not UTF-8$"):
        load_settings()
    assert misspelt(Settings.prefix, Settings.names()) == []


class TestMisspelt:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("BARQUE_CONCURENCY", "BARQUE_CONCURRENCY"),
            ("BARQUE_QUEUE", "BARQUE_QUEUES"),
            ("BARQUE_TIMEOUT", "BARQUE_JOB_TIMEOUT"),
            ("BARQUE_REDIS", "BARQUE_REDIS_URL"),
            ("barque_loglevel", "BARQUE_LOG_LEVEL"),
            ("BARQUE_XYZZY", None),
        ],
    )
    def test_a_name_that_is_no_setting_comes_with_the_nearest(self, monkeypatch, name, meant):
        monkeypatch.setenv(name, "1")
        assert misspelt(Settings.prefix, Settings.names()) == [(name, meant)]

    def test_reading_the_settings_says_nothing_of_it(self, monkeypatch, capfd):
        monkeypatch.setenv("BARQUE_CONCURENCY", "1")
        assert load_settings().concurrency == 100
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        "name",
        [
            "BARQUE_CONCURRENCY", "barque_lease", "BARQUE_DEBUG", "BARQUE_IMAGE", "BARQUE_TEST_POSTGRES_URL",
            "BARQUE_WEBHOOK_SECRET_ACME", "BARQUE_DATABASE_URL_REPORTS", "BARQE_LEASE", "LEASE",
        ],
    )  # fmt: skip
    def test_what_means_something_is_not_listed(self, monkeypatch, name):
        monkeypatch.setenv(name, "9")
        assert misspelt(Settings.prefix, Settings.names()) == []

    def test_a_kubernetes_service_is_not_listed_and_a_port_without_one_is(self, monkeypatch):
        for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_REDIS", "PORT", "PORT_6379_TCP_ADDR"):
            monkeypatch.setenv(f"BARQUE_REDIS_{name}", "10.0.0.1")
        assert misspelt(Settings.prefix, Settings.names()) == []
        monkeypatch.delenv("BARQUE_REDIS_SERVICE_HOST")
        assert "BARQUE_REDIS_PORT" in dict(misspelt(Settings.prefix, Settings.names()))

    def test_the_dotenv_file_is_looked_at_too_and_a_name_in_both_is_told_once(self, monkeypatch, tmp_path):
        file = tmp_path / ".env"
        file.write_text("BARQUE_LEESE=20\nexport BARQUE_CONCURENCY=7\nOTHER=1\nBARQUE_LEASE=20\n")
        monkeypatch.setattr("common.setting_names.ENV_FILE", file)
        monkeypatch.setenv("BARQUE_CONCURENCY", "8")
        assert misspelt(Settings.prefix, Settings.names()) == [
            ("BARQUE_CONCURENCY", "BARQUE_CONCURRENCY"),
            ("BARQUE_LEESE", "BARQUE_LEASE"),
        ]


def test_every_wrong_value_is_told_at_once(monkeypatch):
    monkeypatch.setenv("BARQUE_CONCURRENCY", "0")
    monkeypatch.setenv("BARQUE_LEASE", "0")
    with pytest.raises(ConfigurationError, match=r"BARQUE_CONCURRENCY: .*; BARQUE_LEASE: "):
        load_settings()


@pytest.mark.parametrize("url", ["http://user:{}@host", "redis:u:{}@host", "u:{}@host", "redis://[u:{}@::1]:1/0"])
def test_a_wrong_secret_is_not_in_the_message(monkeypatch, url):
    monkeypatch.setenv("BARQUE_REDIS_URL", url.format(SECRET))
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert SECRET not in str(raised.value)


def test_defaults():
    settings = load_settings()
    assert settings.redis_url == "redis://localhost:6379/0"
    assert settings.queues == (DEFAULT_QUEUE,) == ("arq:queue",)
    assert settings.accept_pickle is False
    assert settings.payload_format == "msgpack"
    assert (settings.concurrency, settings.lease, settings.max_attempts) == (100, 10, 5)


def test_every_setting_says_what_it_is_for():
    assert [name for name, field in reader(Settings).model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("text", "queues"),
    [("a", ("a",)), ("a,b", ("a", "b")), (" a , b ,", ("a", "b")), ("arq:queue,low", ("arq:queue", "low"))],
)
def test_lists_are_separated_by_commas(monkeypatch, text, queues):
    monkeypatch.setenv("BARQUE_QUEUES", text)
    assert load_settings().queues == queues


@pytest.mark.parametrize(
    ("text", "queues", "weights"),
    [
        ("high=6,default=3,low=1", ("high", "default", "low"), (6, 3, 1)),
        ("arq:queue=2, low", ("arq:queue", "low"), (2, 1)),
        ("a=b=3", ("a=b",), (3,)),
    ],
)
def test_queues_may_have_weights_behind_the_last_equals_sign(monkeypatch, text, queues, weights):
    monkeypatch.setenv("BARQUE_QUEUES", text)
    found = load_settings().queues
    assert (found, found.weights) == (queues, weights)
    assert copy.deepcopy(found).weights == pickle.loads(pickle.dumps(found)).weights == weights


def test_variables_and_a_dotenv_file_are_read_and_the_variable_wins(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("common.setting_names.ENV_FILE", ".env")
    Path(".env").write_text("BARQUE_CONCURRENCY=7\nBARQUE_LEASE=20\nOTHER=1\n")
    monkeypatch.setenv("BARQUE_LEASE", "30")
    settings = load_settings()
    assert (settings.concurrency, settings.lease) == (7, 30)


def test_overrides_win_and_none_leaves_a_setting_alone(monkeypatch):
    monkeypatch.setenv("BARQUE_CONCURRENCY", "7")
    assert load_settings(concurrency=9, lease=None).concurrency == 9
    assert load_settings(concurrency=None).concurrency == 7


def test_an_override_that_is_no_setting_is_an_error():
    with pytest.raises(ConfigurationError, match="no such setting: concurency"):
        load_settings(concurency=1)


def test_secrets_are_masked_wherever_settings_are_shown():
    settings = load_settings(
        redis_url=f"redis://user:{SECRET}@host:6379/0?password={SECRET}",
        redis_password=SECRET,
        redis_sentinel_password=SECRET,
        webhook_secret=SECRET,
        database_url=f"postgresql://user:{SECRET}@host/db",
    )
    for shown in (repr(settings), str(settings), f"{settings}"):
        assert SECRET not in shown
        assert "redis://***@host:6379/0" in shown


def test_settings_do_not_change():
    with pytest.raises(AttributeError, match="frozen"):
        load_settings().concurrency = 3


def test_the_process_reads_its_settings_once(monkeypatch):
    first = settings_for_process()
    monkeypatch.setenv("BARQUE_CONCURRENCY", "7")
    assert settings_for_process() is first


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:1/0", "redis://host:1/0"),
        (f"redis://:{SECRET}@host/0", "redis://***@host/0"),
        (f"redis://u:{SECRET}@{SECRET}@host/0", "redis://***@host/0"),
        (f"redis://u:a/{SECRET}@host/0", "redis://***@host/0"),
        (f"unix:///tmp/s?db=1&PASSWORD={SECRET}&x=1", "unix:///tmp/s?db=1&PASSWORD=***"),
        # What makes no password of it as a URL is read may be one all the same.
        (f"redis://host:1/0?password=a&{SECRET}", "redis://host:1/0?password=***"),
        (f"redis://host:1/0?password=a@{SECRET}", "redis://***"),
        (f"redis://u:{SECRET}", "redis://u:***"),
        (f"redis://u:a/{SECRET}", "redis://u:***"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("rediss://host/0", "rediss://host/0"),
        ("unix:///tmp/a:b.sock?db=1", "unix:///tmp/a:b.sock?db=1"),
        ("redis://@host", "redis://host"),
    ],
)
def test_a_url_is_shown_without_what_opens_it(url, shown):
    assert mask_url(url) == shown
