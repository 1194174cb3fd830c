"""The processes of a run: workers, enqueuing clients and one-off programs, each started and ended here.

Owns their lives, their logs and what they report. Each is the leader of a process group of its own, so that what it
forks ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.adapters.base import Program

__all__ = ["Client", "Failed", "Worker", "answer_of", "trouble_in", "wait_until"]

_LAST_LINES = 15
_TROUBLE = re.compile(
    r"""
    Traceback\ \(most\ recent\ call\ last\)   # Python, in plain text or inside a line of JSON
    | ^\s+at\ .+:\d+:\d+\)?$                  # Node
    | ^.*\ (?:ERROR|FATAL|WARN):\             # Sidekiq
    | ^.*"level":"(?:error|critical)"          # Barque
    """,
    re.MULTILINE | re.VERBOSE,
)


def trouble_in(log: str) -> str | None:
    """Return what in a log says that jobs or results went wrong, or None."""
    found = _TROUBLE.search(log)
    return found[0].strip() if found else None


class Failed(Exception):
    """A peer did not do what was asked; the message has the end of its log."""


class _Process:
    def __init__(self, program: Program, folder: Path, name: str, env: dict[str, str]) -> None:
        self.log = folder / f"{name}.log"
        self.folder = folder
        self._program = program
        self._env = os.environ | env | program.env
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        url = self._env["BENCH_REDIS_URL"]
        with self.log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    [word.replace("{redis_url}", url) for word in self._program.argv],
                    stdin=subprocess.PIPE,
                    stdout=self._stdout(log),
                    stderr=log,
                    cwd=self.folder,
                    env=self._env,
                    text=True,
                    start_new_session=True,
                )
            except OSError as error:
                raise Failed(f"cannot start {Path(self._program.argv[0]).name}: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        complaints = [trouble_in(log.read_text(errors="replace")) for log in self.folder.glob("*.log")]
        # What a run wanted to know it knows by now; a graceful end would only cost time.
        self.signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        if kind is None and any(complaints):
            # A figure of a run that failed jobs, or lost results, on its way would say nothing.
            raise self.failed(f"it logged trouble: {next(filter(None, complaints))}")

    @property
    def process(self) -> subprocess.Popen[str]:
        """The leader of its group."""
        assert self._process is not None
        return self._process

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def failed(self, what: str) -> Failed:
        """Return the error that says what went wrong, with the end of the log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()[-_LAST_LINES:]
        return Failed("\n".join([what, *lines]))

    def _stdout(self, log: Any) -> Any:
        return log


class Worker(_Process):
    """One worker process of a peer.

    Args:
        expect: jobs after which its marks are written.
    """

    def __init__(self, program: Program, folder: Path, name: str, *, env: dict[str, str], expect: int) -> None:
        self._marks = folder / f"{name}.marks.json"
        super().__init__(program, folder, name, env | {"BENCH_MARKS": str(self._marks), "BENCH_EXPECT": str(expect)})

    def wait_for(self, mark: str = "", *, timeout: float) -> dict[str, Any]:
        """Wait for a marks file and return its content.

        Args:
            mark: "" for the last job's end, or "first", "all-begun", or a name of the task's own.
            timeout: seconds.

        Raises:
            Failed: the worker ended, or the time did.
        """
        path = self._marks.with_name(f"{self._marks.name}.{mark}") if mark else self._marks
        wait_until(path.exists, [self], timeout=timeout, what=f"the mark of the {mark or 'last job'}")
        content: dict[str, Any] = json.loads(path.read_text())
        return content

    def resident_bytes(self) -> int:
        """Return the resident memory of all its processes."""
        rows = subprocess.run(["ps", "-A", "-o", "pgid=,rss="], capture_output=True, text=True, check=True).stdout
        group = str(self.process.pid)
        return sum(int(rss) * 1024 for pgid, rss in (row.split() for row in rows.splitlines()) if pgid == group)


def wait_until(reached: Callable[[], bool], workers: Sequence[Worker], *, timeout: float, what: str) -> None:
    """Wait, looking every 5 ms, until something is reached while workers run.

    Raises:
        Failed: a worker ended, or the time (seconds) did.
    """
    deadline = time.monotonic() + timeout
    while not reached():
        for worker in workers:
            if worker.process.poll() is not None:
                raise worker.failed(f"a worker ended with exit code {worker.process.returncode} before {what}")
        if time.monotonic() > deadline:
            raise workers[0].failed(f"{timeout:g} s went by without {what}")
        time.sleep(0.005)


class Client(_Process):
    """The enqueuing side of a peer, which does what it is told and says how long it took."""

    def __init__(self, program: Program, folder: Path, name: str, *, env: dict[str, str]) -> None:
        super().__init__(program, folder, name, env)
        self._answers: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Self:
        super().__enter__()
        threading.Thread(target=self._read, daemon=True).start()
        self._answer(30, "start")
        return self

    def ask(self, do: str, *, timeout: float = 180, **details: Any) -> dict[str, Any]:
        """Give a command and return the answer; peers/shared/driver.py lists them.

        Raises:
            Failed: it could not be done, or not in time (seconds).
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **details}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise self.failed(f"the client ended before {do}") from error
        answer = self._answer(timeout, do)
        if "error" in answer:
            raise self.failed(f"{do}: {answer['error']}")
        return answer

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _answer(self, timeout: float, what: str) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise self.failed(f"no answer to {what} after {timeout:g} s") from None
        try:
            content: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            raise self.failed(f"the client said {line!r} to {what}") from None
        return content

    def _stdout(self, log: Any) -> Any:  # noqa: ARG002
        return subprocess.PIPE


def answer_of(program: Program, folder: Path, env: dict[str, str], *, timeout: float = 180) -> dict[str, Any]:
    """Run a program to its end and return the JSON it prints.

    Raises:
        Failed: it failed, or took longer (seconds).
    """
    try:
        done = subprocess.run(
            program.argv,
            env=os.environ | env | program.env,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{Path(program.argv[1]).name}: no end after {timeout:g} s") from None
    if done.returncode:
        said = done.stderr.strip()[-2000:]
        raise Failed(f"{Path(program.argv[1]).name}: {said.splitlines()[-1] if said else 'no word'}\n{said}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
