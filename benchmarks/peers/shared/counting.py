"""What every task body of the benchmark does besides its work: count, and take the time of the first and the last.

Owns the marks file of one worker process, by which the harness learns when the first job began and the last one
ended; the same lines stand in counting.mjs and counting.rb. A job costs two calls of some tens of nanoseconds.
Times are of the monotonic clock, which all processes of a machine share.

    BENCH_EXPECT    jobs after which the marks are written
    BENCH_MARKS     the file; `<file>.first` appears when the first job begins
"""

import itertools
import json
import os
import time
from pathlib import Path

_EXPECT = int(os.environ.get("BENCH_EXPECT", "0"))
_MARKS = Path(os.environ.get("BENCH_MARKS", "marks.json"))

_begun = itertools.count(1)  # next() of it is one step: threads and greenlets may share it
_ended = itertools.count(1)
_first: tuple[int, int] | None = None
_latencies: list[int] = []


def begin() -> None:
    """Count a job that begins; call it first."""
    global _first  # noqa: PLW0603 - one worker process, one run
    if _first is None:
        _first = time.monotonic_ns(), time.process_time_ns()
        report("first", {"pid": os.getpid()})
    if next(_begun) == _EXPECT:
        report("all-begun", {"pid": os.getpid()})


def end() -> None:
    """Count a job that ends; call it last."""
    if next(_ended) == _EXPECT:
        ended, cpu_ended = time.monotonic_ns(), time.process_time_ns()
        assert _first is not None
        marks = {
            "began_ns": _first[0],
            "ended_ns": ended,
            "cpu_ns": cpu_ended - _first[1],
            "jobs": _EXPECT,
            "latencies_ns": _latencies,
        }
        _write(_MARKS, marks)


def picked_up(sent_ns: int) -> None:
    """Note how long ago a job was sent; call it first."""
    _latencies.append(time.monotonic_ns() - sent_ns)


def report(mark: str, content: dict[str, object]) -> None:
    """Write a marks file of a task's own."""
    _write(_MARKS.with_name(f"{_MARKS.name}.{mark}"), content)


def _write(path: Path, marks: dict[str, object]) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(json.dumps(marks))
    unfinished.rename(path)
