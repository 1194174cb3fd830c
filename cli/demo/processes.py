"""The demo's child processes: the HTTP server, and the workers as `arq workers.WorkerSettings`.

Owns starting them, noticing that one died, ending them, and that none outlives this process however it ends. What
they do is not its business.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec

from cli.demo.faults import ServerPlan
from cli.demo.server import Answers
from common.errors import BarqueError
from common.secret import Secret
from common.settings import Settings

__all__ = ["Child", "FileServer", "ProcessDied", "Workers", "environment"]

_SECONDS_TO_STOP = 15.0

# The end of the pipe without a line says that we are gone, by SIGKILL perhaps; the workers must go too.
_WATCH = """
read -r line && exit 0
kill -TERM "$@" 2>/dev/null
sleep 10
kill -KILL "$@" 2>/dev/null
"""


class ProcessDied(BarqueError):
    """A child process ended by itself; the message has the end of what it wrote."""


class Child(Protocol):
    """One child process, or several."""

    def check(self) -> None:
        """Raise ProcessDied if one is gone."""


class FileServer:
    """The HTTP server as a process; it leaves at the end of its standard input, so it cannot outlive us.

    Attributes:
        url: where it serves, without a slash at the end.
    """

    def __init__(self, plan: ServerPlan, log: Path) -> None:
        self._plan = plan
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli.demo.server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_bare_environment(),
                start_new_session=True,  # Ctrl-C is for us to act on, in order
            )
        try:
            self._greet(self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def stop(self) -> Answers:
        """End the server in order and return what it answered.

        Raises:
            ProcessDied: it had ended before, or does not end.
        """
        process, self._process = self._process, None
        assert process is not None
        try:
            said, _ = process.communicate(timeout=_SECONDS_TO_STOP)
            return msgspec.json.decode(said, type=Answers)
        except (subprocess.TimeoutExpired, msgspec.DecodeError):
            process.kill()
            process.communicate()
            raise ProcessDied(f"the HTTP server did not end in order{_last_words(self._log)}") from None

    def check(self) -> None:
        """Raise ProcessDied if the server is gone."""
        if self._process is not None and self._process.poll() is not None:
            raise ProcessDied(
                f"the HTTP server ended with code {self._process.returncode}{_last_words(self._log)}"
            ) from None

    def _greet(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has died already, and its log will say of what
            process.stdin.write(msgspec.json.encode(self._plan) + b"\n")
            process.stdin.flush()
        port = process.stdout.readline()
        if not port:
            raise ProcessDied(f"the HTTP server ended with code {process.wait()}{_last_words(self._log)}")
        self.url = f"http://127.0.0.1:{int(port)}"


class Workers:
    """Worker processes, each as a person would start it: `arq workers.WorkerSettings` and an environment.

    Args:
        count: how many.
        settings: what they all have in common.
        folder: their working directory; no `.env` of somebody's is in it.
        logs: where worker N logs to `worker-N.jsonl`, and anything else it writes goes to `worker-N.err`.
    """

    def __init__(self, count: int, settings: Settings, *, folder: Path, logs: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._outputs = [logs / f"worker-{number}.err" for number in range(1, count + 1)]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._watcher: subprocess.Popen[bytes] | None = None
        self.logs = [logs / f"worker-{number}.jsonl" for number in range(1, count + 1)]

    def __enter__(self) -> Self:
        try:
            for log, output in zip(self.logs, self._outputs, strict=True):
                self._processes.append(self._start(log, output))
            self._watcher = subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", _WATCH, "sh", *(str(process.pid) for process in self._processes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pids(self) -> list[int]:
        """The process ids, in order."""
        return [process.pid for process in self._processes]

    def check(self) -> None:
        """Raise ProcessDied if a worker is gone."""
        for number, process in enumerate(self._processes, start=1):
            if process.poll() is not None:
                words = _last_words(self._outputs[number - 1], self.logs[number - 1])
                raise ProcessDied(f"worker {number} ended with code {process.returncode}{words}")

    def stop(self) -> list[int]:
        """End the workers by SIGTERM, those that do not heed it within 15 seconds by SIGKILL.

        Returns:
            The exit code of each: 0 if it ended in order, minus the signal's number if it was killed.
        """
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _SECONDS_TO_STOP
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.communicate(b"done\n")
        return [process.returncode for process in self._processes]

    def _start(self, log: Path, output: Path) -> subprocess.Popen[bytes]:
        settings = self._settings.replace(log_file=log)
        with output.open("ab") as stream:
            return subprocess.Popen(  # noqa: S603
                [*_arq(), "workers.WorkerSettings"],
                cwd=self._folder,
                env=_bare_environment() | environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # Ctrl-C is for us to act on, in order
            )


def environment(settings: Settings) -> dict[str, str]:
    """Return the settings that were given, defaults left out, as environment variables."""
    return {
        f"BARQUE_{name.upper()}": text
        for name in sorted(settings.given)
        if (text := _as_text(getattr(settings, name))) is not None
    }


def _as_text(value: Any) -> str | None:
    match value:
        case None:
            return None
        case Secret():
            return value.get_secret_value()
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(value)
        case Path():
            return str(value.absolute())
        case _:
            return str(value)


def _bare_environment() -> dict[str, str]:
    """Return this process's environment without settings of Barque's, for a child in another folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
    paths = [str(Path(path).absolute()) for path in kept.get("PYTHONPATH", "").split(os.pathsep) if path]
    # In a source tree that is not installed, the child could not find what we are made of.
    tree = Path(__file__).resolve().parents[2]
    if tree not in {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}:
        paths.insert(0, str(tree))
    return kept | {"PYTHONPATH": os.pathsep.join(paths)} if paths else kept


def _arq() -> Sequence[str]:
    """Return the `arq` of this very environment, whatever PATH says."""
    script = Path(sys.executable).with_name("arq")
    return [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-m", "arq"]


def _last_words(*files: Path) -> str:
    for file in files:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            continue
        if lines:
            return "\n".join([f"; the end of {file}:", *(f"  {line}" for line in lines[-8:])])
    return ""
