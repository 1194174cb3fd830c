"""What the demo hands to the processes it starts."""

from pathlib import Path

from cli.demo.processes import environment
from common.secret import Secret
from common.settings import Settings, load_settings


def test_settings_arrive_in_the_worker_as_they_were_given(monkeypatch, tmp_path):
    given = {
        "redis_url": "redis://127.0.0.1:1234/5",
        "redis_password": Secret("p@ss, word"),
        "redis_sentinels": ("one:1", "two:2"),
        "redis_tls_ca": tmp_path / "ca.pem",
        "redis_tls_verify": False,
        "queues": ("barque:demo:1",),
        "tasks": ("workers.tasks", "cli.demo.tasks"),
        "concurrency": 7,
        "job_timeout": 2.5,
        "http_allow_private": True,
        "log_file": tmp_path / "worker 1.jsonl",
        "database_url": Secret("sqlite+aiosqlite:///x.sqlite3"),
    }
    for name, value in environment(Settings.of(given)).items():
        monkeypatch.setenv(name, value)
    arrived = load_settings()
    assert {name: getattr(arrived, name) for name in given} == given


def test_what_was_not_given_is_not_handed_on():
    assert environment(Settings.of({"redis_username": None})) == {}


def test_paths_are_absolute_since_a_worker_lives_in_another_folder():
    handed = environment(Settings.of({"redis_tls_ca": Path("ca.pem")}))
    assert handed == {"BARQUE_REDIS_TLS_CA": str(Path("ca.pem").absolute())}
