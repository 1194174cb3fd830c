"""`barque` commands in processes of their own that need not import anything first: one process imports, others fork.

    with Commands() as commands:
        ended = await commands.run("status", "--json", folder=…, environment=…)     Ended(code, out, err)

Most of what a short command costs is Python importing what it stands on. So a process without threads imports that
once; each command is a fork of it that goes on as `python -m cli` would, with streams, folder and environment of its
own, to the interpreter's own end. For what a command does before and while it imports, for signals and for terminals,
a test starts a real process.
"""

import array
import asyncio
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

__all__ = ["Commands", "Ended"]

ROOT = Path(__file__).parents[2]
_WITHIN = 60.0
_LENGTH = struct.Struct("!I")


@dataclass
class Ended:
    """A process that has ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self):
        assert self.out.count("\n") == 1, "JSON for programs is one line, and nothing else is on stdout"
        return json.loads(self.out)


class Commands:
    """The process that forks, as long as the block runs; it and all that is left of its forks are killed then."""

    def __enter__(self) -> Self:
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.commands", str(theirs.fileno())],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return self

    def __exit__(self, *_) -> None:
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    async def run(self, *arguments: str, folder: Path, environment: Mapping[str, str]) -> Ended:
        """Run a command to its end; its standard input is empty."""
        pipes = [os.pipe() for _ in range(3)]
        asked = json.dumps([arguments, str(folder), dict(environment)]).encode()
        socket.send_fds(self._channel, [_LENGTH.pack(len(asked))], [writing for _, writing in pipes])
        self._channel.sendall(asked)
        for _, writing in pipes:
            os.close(writing)
        async with asyncio.timeout(_WITHIN):
            out, err, code = await asyncio.gather(*(_all_of(reading) for reading, _ in pipes))
        return Ended(int(code), out.decode(), err.decode())


async def _all_of(descriptor: int) -> bytes:
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb")
    )
    try:
        return await stream.read()
    finally:
        transport.close()


def _serve(channel: socket.socket) -> NoReturn:
    """Fork for each command that is asked for, until nobody can ask any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that watch over a command are waited for by nobody
    while True:
        head, streams, _, _ = socket.recv_fds(channel, _LENGTH.size, 3)
        if not head:
            sys.exit()
        (length,) = _LENGTH.unpack(head)
        asked = array.array("B")
        while len(asked) < length:
            asked.frombytes(channel.recv(length - len(asked)))
        if not os.fork():
            channel.close()
            _watch_over(*streams, *json.loads(asked.tobytes()))
        for stream in streams:
            os.close(stream)


def _watch_over(out: int, err: int, told: int, arguments: list[str], folder: str, environment: dict) -> NoReturn:
    """Run the command in a fork, and tell its exit code when it has ended, however it did."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    command = os.fork()
    if not command:
        os.close(told)
        _become(out, err, arguments, folder, environment)
    os.close(out)
    os.close(err)
    _, status = os.waitpid(command, 0)
    os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(out: int, err: int, arguments: list[str], folder: str, environment: dict[str, str]) -> NoReturn:
    """Go on as `python -m cli` with these arguments, started there."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, max(out, err) + 1)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    sys.argv[1:] = arguments
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    runpy.run_module("cli", run_name="__main__", alter_sys=True)
    sys.exit()


def _import_all() -> None:
    for name in ("producer", "workers.worker"):
        importlib.import_module(name)
    package = importlib.import_module("cli")
    for module in pkgutil.walk_packages(package.__path__, "cli."):
        if not module.name.startswith(("cli.__main__", "cli.demo.")):  # the demo declares tasks
            importlib.import_module(module.name)
    declared = importlib.import_module("common.tasks").registered_tasks()
    assert not declared, f"a command would find tasks that it has not imported: {', '.join(declared)}"


if __name__ == "__main__":
    _import_all()
    gc.freeze()  # a collection in a fork would touch, and thereby copy, all that is shared
    _serve(socket.socket(fileno=int(sys.argv[1])))
