"""`barque dashboard` as a process: it starts, serves, stops when it is told, and says in one line what keeps it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from cli.main import main

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def running(*arguments, says=(), **settings):
    """Run the command, and yield its process and its address.

    Args:
        says: what each line begins with that it writes before.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
    environment |= {"PYTHONPATH": str(ROOT)} | {f"BARQUE_{name}": str(value) for name, value in settings.items()}
    line = [sys.executable, "-m", "cli", "dashboard", "--port", "0", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, env=environment, stderr=pipe, stdout=pipe, text=True) as process:
        try:
            for expected in (*says, "http://"):
                written = process.stderr.readline()
                assert written.startswith(expected), written
            yield process, written.split()[0]
        finally:
            process.kill()


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop_whoever_is_slow(redis_url, told):
    with running(REDIS_URL=redis_url, DASHBOARD_ROOT_PATH="/barque") as (process, url):
        assert url.endswith("/barque/")
        assert httpx.get(url).status_code == 200
        assert httpx.get(url + "api/v1/queues").json()["queues"][0]["href"] == "/barque/api/v1/queues/arq:queue"
        with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port)) as slow:
            slow.sendall(b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            assert httpx.get(url + "healthz").text == "ok\n"
            process.send_signal(told)
            assert process.wait(timeout=30) == 0


def test_it_starts_without_a_server_and_says_so_where_it_is_asked():
    slip = "BARQUE_DASHBOARD_PASWORD is no setting and does nothing; did you mean BARQUE_DASHBOARD_PASSWORD?"
    with running(REDIS_URL="redis://127.0.0.1:1/0", DASHBOARD_PASWORD="x", says=[slip]) as (_, url):
        page = httpx.get(url)
        assert (page.status_code, "127.0.0.1:1" in page.text) == (503, True)
        assert httpx.get(url + "api/v1/queues").json()["type"] == "redis-unavailable"
        assert httpx.get(url + "healthz").status_code == 200


class TestWhatKeepsItFromStarting:
    """Each is one line, and exit code 2."""

    @staticmethod
    def refused(capsys, *arguments) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["dashboard", *arguments])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    def test_a_port_that_is_taken(self, capsys):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            said = self.refused(capsys, "--port", port)
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use; another port is taken with --port" in said

    def test_an_address_others_reach_without_a_credential(self, capsys):
        assert "only with a credential" in self.refused(capsys, "--host", "0.0.0.0")

    def test_an_address_that_is_none(self, capsys, monkeypatch):
        monkeypatch.setenv("BARQUE_DASHBOARD_PASSWORD", "long enough")
        assert "cannot listen on no such host:9180" in self.refused(capsys, "--host", "no such host")

    def test_a_wrong_setting(self, capsys, monkeypatch):
        monkeypatch.setenv("BARQUE_DASHBOARD_ARGUMENTS", "some")
        assert "BARQUE_DASHBOARD_ARGUMENTS: 'some' is none of its values" in self.refused(capsys)

    def test_a_module_that_is_not_there(self, capsys):
        assert "no_such_module" in self.refused(capsys, "--tasks", "no_such_module")

    def test_the_extra_that_is_not_installed(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "uvicorn", None)
        monkeypatch.delitem(sys.modules, "dashboard.server", raising=False)
        said = self.refused(capsys, "--port", "0")
        assert said == "barque: the dashboard needs uvicorn, which is not installed: pip install 'barque[dashboard]'\n"
