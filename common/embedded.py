"""An embedded Valkey (or Redis) for a machine without a server: for trying out, for tests, for one host.

Owns the server process: starting, telling that it is ready, stopping; which program to start is
`server_binary`'s. Knows no key and does not import redis: it has one question to ask the server, and
asks it over a socket.

The server must not outlive the process that started it, even one that is killed. PR_SET_PDEATHSIG
would need code between fork and exec (unsafe once there are threads), is tied to the starting
*thread*, and exists on Linux alone. Instead a `sh` of a few lines holds the read end of a pipe: the
kernel closes the write end however this process dies, and the shell then ends the server. The other
way round, the server itself holds the lock on its folder, so nobody opens the data of a server that
is still shutting down.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

from common.errors import ConfigurationError, RedisUnavailable
from common.server_binary import ServerBinary, find_server

__all__ = ["EmbeddedServer"]

_LONGEST_SOCKET_PATH = 103
"""Bytes a Unix socket's path may have on every platform (macOS: 104 with the closing NUL; Linux: 108)."""

# $1 is the server's pid, $2 the folder to remove or "". A line says that we have ended the server
# ourselves; the end of the pipe without one, that we are gone.
_WATCH = """
read -r line && exit 0
kill -TERM "$1" 2>/dev/null
n=0
while kill -0 "$1" 2>/dev/null && [ "$n" -lt 10 ]; do sleep 1; n=$((n + 1)); done
kill -KILL "$1" 2>/dev/null
[ -z "$2" ] || rm -rf -- "$2"
"""


class EmbeddedServer:
    """A Valkey or Redis server that lives as long as this object is started, and no longer than this process.

        with EmbeddedServer() as server:
            producer = Producer(redis_url=server.url)

    A server with a folder keeps its data there in an append-only file, written out every second: a
    killed machine loses the last second, a killed server nothing. Without one it keeps nothing.

    Args:
        folder: where the data and the log live, made if it is not there; None means a temporary
            folder that is removed at the end.
        port: the TCP port; 0 takes a free one. A restarted server has the same port again.
        unix_socket: listen on `redis.sock` in the folder instead of on TCP.
        host: the address to listen on. One other than loopback needs a password.
        password: what clients must give; it is handed to the server in neither a file nor an argument.
        binary: the server to run, instead of `find_server()`.
        config: more of the server's configuration; a sequence gives a directive several arguments.
        start_timeout: seconds until the server must answer; loading much data takes long.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        port: int = 0,
        unix_socket: bool = False,
        host: str = "127.0.0.1",
        password: str | None = None,
        binary: Path | str | None = None,
        config: Mapping[str, str | Sequence[str]] | None = None,
        start_timeout: float = 30.0,
    ) -> None:
        if not 0 <= port <= 65535:
            raise ConfigurationError(f"port {port}: give 1 to 65535, or 0 for a free one")
        if not unix_socket and not password and not _is_loopback(host):
            raise ConfigurationError(f"a server on {host} is open to the network: give it a password")
        self._given_folder = Path(folder).absolute() if folder is not None else None
        self._folder = self._given_folder
        self._port = port
        self._unix_socket = unix_socket
        self._host = host
        self._password = password
        self._binary = Path(binary) if binary is not None else None
        self._config = dict(config or {})
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process is not None else "not started"
        return f"<EmbeddedServer {self._where()} {state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL for `BARQUE_REDIS_URL`, with the password if there is one."""
        secret = f":{quote(self._password, safe='')}@" if self._password else ""
        if self._unix_socket:
            return f"unix://{secret}{quote(str(self._socket_path))}?db=0"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"redis://{secret}{host}:{self.port}/0"

    @property
    def port(self) -> int:
        """The TCP port; 0 when the server listens on a Unix socket, or no port was chosen yet."""
        return 0 if self._unix_socket else self._port

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            RuntimeError: the server is not started.
        """
        if self._process is None:
            raise RuntimeError("the server is not started")
        return self._process.pid

    @property
    def folder(self) -> Path:
        """Where the data and `server.log` are.

        Raises:
            RuntimeError: the folder is a temporary one and the server is not started.
        """
        if self._folder is None:
            raise RuntimeError("the server is not started")
        return self._folder

    @property
    def running(self) -> bool:
        """Whether the server is started and its process alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def _socket_path(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def _log_path(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        """Start the server and return once it answers.

        Raises:
            NoServerBinary: there is none to start, or it is too old.
            ConfigurationError: the folder cannot be used, or another server uses it.
            RedisUnavailable: the server did not come up; the message has the end of its log.
            RuntimeError: it is started already.
        """
        if self._process is not None:
            raise RuntimeError("the server is started already")
        binary = find_server(self._binary)
        self._make_folder()
        try:
            if self._unix_socket or self._port:
                self._launch(binary)
            else:
                self._launch_on_free_port(binary)
        except BaseException:
            self._end(subprocess.Popen.kill)
            raise

    def stop(self) -> None:
        """Stop the server in order, at most ten seconds long; then kill it. Does nothing to a stopped one."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """Kill the server as a crash would: nothing is written out. A temporary folder goes too."""
        self._end(subprocess.Popen.kill)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server's process ends by itself, or is ended by somebody else.

        Args:
            timeout: seconds; None waits without end.

        Returns:
            Whether it has ended. It still wants `stop()`.

        Raises:
            RuntimeError: the server is not started.
        """
        if self._process is None:
            raise RuntimeError("the server is not started")
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _make_folder(self) -> None:
        if self._given_folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="barque-"))
        else:
            try:
                self._given_folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(f"folder {self._given_folder}: {error.strerror}") from None
        if self._unix_socket and len(os.fsencode(self._socket_path)) > _LONGEST_SOCKET_PATH:
            raise ConfigurationError(f"folder {self.folder}: too long a path for a Unix socket; use a shorter one")

    def _launch_on_free_port(self, binary: ServerBinary) -> None:
        # The number is free when we ask for it and may be taken when the server does: then ask again.
        for _ in range(4):
            try:
                self._launch(binary, port=_free_port(self._host))
            except _PortTaken:
                continue
            return
        self._launch(binary, port=_free_port(self._host))

    def _launch(self, binary: ServerBinary, port: int | None = None) -> None:
        port = self._port if port is None else port
        with self._lock_folder() as lock, self._open_log() as log:
            began_at = log.tell()
            self._process = subprocess.Popen(  # noqa: S603
                [binary.path, "-"],  # the configuration comes on stdin: a password stands in no file, no `ps`
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                pass_fds=(lock.fileno(),),
                # Ctrl-C in a terminal goes to us alone: the worker releases its jobs before the server ends.
                start_new_session=True,
            )
        self._watcher = self._watch(self._process.pid)
        self._configure(self._process, port)
        self._wait_until_ready(self._process, port, began_at)
        self._port = port

    def _lock_folder(self) -> IO[bytes]:
        """Return the locked lock file; the lock lasts until every process that has the file open is gone."""
        try:
            lock = (self.folder / "server.lock").open("wb")
        except OSError as error:
            raise ConfigurationError(f"folder {self.folder} cannot be written to: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise ConfigurationError(
                f"folder {self.folder} is in use by another server; two would destroy each other's data. "
                "Stop that one, or give another folder"
            ) from None
        return lock

    def _open_log(self) -> IO[bytes]:
        try:
            log = self._log_path.open("ab")
        except OSError as error:
            raise ConfigurationError(f"{self._log_path} cannot be written to: {error.strerror}") from None
        return log

    def _watch(self, pid: int) -> subprocess.Popen[bytes]:
        temporary = str(self._folder) if self._given_folder is None else ""
        return subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _WATCH, "sh", str(pid), temporary],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _configure(self, process: subprocess.Popen[bytes], port: int) -> None:
        directives: dict[str, str | Sequence[str]] = {
            "port": "0" if self._unix_socket else str(port),
            "dir": str(self.folder),
            "daemonize": "no",
            "save": "",
            "appendonly": "no" if self._given_folder is None else "yes",
            "appendfsync": "everysec",
            # A queue that forgets jobs to make room is worse than one that says it is full.
            "maxmemory-policy": "noeviction",
        }
        if self._unix_socket:
            directives |= {"unixsocket": str(self._socket_path), "unixsocketperm": "700"}
        else:
            directives["bind"] = self._host
        if self._password:
            directives["requirepass"] = self._password
        lines = [_directive(name, value) for name, value in (directives | self._config).items()]
        assert process.stdin is not None
        # A broken pipe means that it has died already; its log will say of what.
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write("".join(lines).encode())

    def _wait_until_ready(self, process: subprocess.Popen[bytes], port: int, began_at: int) -> None:
        deadline = time.monotonic() + self._start_timeout
        while not self._answers(process.pid, port):
            try:
                process.wait(0.01)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                what = f"did not answer within {self._start_timeout:g} s"
            else:
                what = f"ended with code {process.returncode}"
            log = self._log_tail(began_at)
            self._dismiss()
            if "Address already in use" in log:
                raise _PortTaken(
                    f"port {port} on {self._host} is taken by another program: give another port, or 0 for a free one"
                )
            raise RedisUnavailable(f"the embedded server {what}; the end of {self._log_path}:\n{log}")

    def _answers(self, pid: int, port: int) -> bool:
        """Tell whether *this* server is ready: another one on the port would answer a PING as well."""
        family, address = (
            (socket.AF_UNIX, str(self._socket_path))
            if self._unix_socket
            else (socket.AF_INET6 if ":" in self._host else socket.AF_INET, (_reachable(self._host), port))
        )
        commands: list[tuple[str, ...]] = [("AUTH", self._password)] if self._password else []
        commands += [("INFO", "server"), ("PING",)]
        try:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.settimeout(0.25)  # an ear that never answers may be another program's
                connection.connect(address)
                connection.sendall(b"".join(_encode(command) for command in commands))
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError:
            return False
        return answer.endswith(b"+PONG\r\n") and f"\r\nprocess_id:{pid}\r\n".encode() in answer

    def _log_tail(self, began_at: int) -> str:
        with self._log_path.open("rb") as log:
            log.seek(began_at)
            lines = log.read().decode(errors="replace").splitlines()
        # ">>> 'directive value'" quotes a line of the configuration; the value may be a password.
        shown = (f"{' '.join(line.split()[:2])} …" if line.startswith(">>>") else line for line in lines[-8:])
        return "\n".join(f"  {line}" for line in shown)

    def _end(self, how: Callable[[subprocess.Popen[bytes]], None]) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            how(process)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._dismiss()
        if self._given_folder is None and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _dismiss(self) -> None:
        """Send the watcher home, before the server's process id can belong to somebody else."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.communicate(b"done\n")

    def _where(self) -> str:
        if self._unix_socket:
            return f"in {self._folder}"
        return f"{self._host}:{self._port}"


class _PortTaken(RedisUnavailable):
    """The server could not have its port."""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reachable(host: str) -> str:
    """Return the address at which a server that listens on all addresses is reached from here."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}.get(host, host)  # noqa: S104


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((_reachable(host), 0))
        port: int = probe.getsockname()[1]
    return port


def _directive(name: str, value: str | Sequence[str]) -> str:
    arguments = [value] if isinstance(value, str) else value
    return " ".join([name, *map(_quoted, arguments)]) + "\n"


def _quoted(argument: str) -> str:
    escaped = "".join(
        f"\\x{byte:02x}" if byte < 0x20 or byte in b'"\\' or byte > 0x7E else chr(byte)
        for byte in os.fsencode(argument)
    )
    return f'"{escaped}"'


def _encode(command: Sequence[str]) -> bytes:
    parts = [part.encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
