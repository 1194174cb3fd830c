"""common/settings.py: names, defaults, and one readable line for each wrong value."""

import re
from pathlib import Path

import pytest

from common.errors import ConfigurationError
from common.settings import DEFAULT_QUEUE, Settings, load_settings, mask_url, settings_for_process

SECRET = "hunter2"

WRONG = {
    "REDIS_URL": ["http://host", "host:6379", ""],
    "REDIS_CONNECT_TIMEOUT": ["0", "-1", "soon", "inf", "nan"],
    "REDIS_TLS_VERIFY": ["maybe"],
    "QUEUES": ["", " , "],
    "CONCURRENCY": ["0", "many", "1.5", "1000001"],
    "JOB_TIMEOUT": ["0", "-5", "nan", "inf"],
    "MAX_ATTEMPTS": ["0", "x"],
    "KEEP_RESULT": ["-1", "nan", "inf", "soon"],
    "LEASE": ["0.5", "3601", "nan"],
    "SHUTDOWN_GRACE": ["-1", "nan", "inf"],
    "POLL_DELAY": ["0", "-1"],
    "ACCEPT_PICKLE": ["perhaps"],
    "PAYLOAD_FORMAT": ["json", "MSGPACK"],
    "MAX_PAYLOAD_BYTES": ["0", "1MB"],
    "LOG_LEVEL": ["info", "TRACE"],
    "LOG_FORMAT": ["xml"],
    "HTTP_ALLOW_PRIVATE": ["?"],
    "HTTP_MAX_BYTES": ["0"],
    "HTTP_DOWNLOAD_MAX_BYTES": ["-1"],
    "HTTP_TIMEOUT": ["0"],
    "COMPUTE_PROCESSES": ["-1"],
}
# Any text is a fair value of these.
FREE = {
    "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_SENTINELS", "REDIS_SENTINEL_SERVICE", "REDIS_SENTINEL_USERNAME",
    "REDIS_SENTINEL_PASSWORD", "REDIS_TLS_CA", "REDIS_TLS_CERT", "REDIS_TLS_KEY", "TASKS", "LOG_FILE", "DATA_ROOT",
    "WEBHOOK_SECRET", "DATABASE_URL",
}  # fmt: skip


def test_every_setting_is_in_the_tables_above():
    assert {name.upper() for name in Settings.model_fields} == WRONG.keys() | FREE


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_one_line_that_names_the_variable(monkeypatch, name, value):
    monkeypatch.setenv(f"BARQUE_{name}", value)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    message = str(raised.value)
    assert re.match(rf"BARQUE_{name}: \S", message), message
    assert "\n" not in message
    assert "pydantic" not in message
    assert raised.value.__suppress_context__


def test_every_wrong_value_is_told_at_once(monkeypatch):
    monkeypatch.setenv("BARQUE_CONCURRENCY", "0")
    monkeypatch.setenv("BARQUE_LEASE", "0")
    with pytest.raises(ConfigurationError, match=r"BARQUE_CONCURRENCY: .*; BARQUE_LEASE: "):
        load_settings()


def test_a_wrong_secret_is_not_in_the_message(monkeypatch):
    monkeypatch.setenv("BARQUE_REDIS_URL", f"http://user:{SECRET}@host")
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
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("text", "queues"),
    [("a", ("a",)), ("a,b", ("a", "b")), (" a , b ,", ("a", "b")), ("arq:queue,low", ("arq:queue", "low"))],
)
def test_lists_are_separated_by_commas(monkeypatch, text, queues):
    monkeypatch.setenv("BARQUE_QUEUES", text)
    assert load_settings().queues == queues


def test_variables_and_a_dotenv_file_are_read_and_the_variable_wins(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")
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
    with pytest.raises(ValueError, match="frozen"):
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
        (f"unix:///tmp/s?db=1&PASSWORD={SECRET}&x=1", "unix:///tmp/s?db=1&PASSWORD=***&x=1"),
        ("redis://@host", "redis://host"),
    ],
)
def test_a_url_is_shown_without_what_opens_it(url, shown):
    assert mask_url(url) == shown
