"""What a worker says when it is told to stop: a line of the log, and to the person at a terminal, what comes next.

Owns the words. A log may go to a file, and the person would see nothing happen; nor does it say what one more Ctrl-C
does. Only a worker that is a program of its own speaks to people.
"""

from __future__ import annotations

import contextlib
import signal
import sys

import structlog

__all__ = ["draining", "draining_all", "ended", "leave_it_to_the_supervisor", "releasing", "releasing_all"]

log = structlog.get_logger("barque.worker")

_speaks = True


def draining(signum: int, *, running: int, seconds: float, program: bool) -> None:
    """Say that running jobs may end within so many seconds; to people where the worker is a program of its own."""
    _log_stop(signum, running, f"within {seconds:g} s")
    if not program:
        return
    if running:
        _say(signum, f"Stopping: {_jobs(running)} may still end, within {seconds:g} s. {{again}} gives back what runs.")
    else:
        _say(signum, "Stopping: no job is running.")


def draining_all(signum: int, *, processes: int, seconds: float) -> None:
    """Say to people that the jobs of several processes may end within so many seconds."""
    each = f"{processes} process{'' if processes == 1 else 'es'}"
    _say(
        signum,
        f"Stopping {each}: jobs that run may still end, within {seconds:g} s. {{again}} gives back what runs.",
    )


def releasing(signum: int, *, running: int, program: bool) -> None:
    """Say that running jobs go back to their queues."""
    _log_stop(signum, running, "at once")
    if running and program:
        _say(signum, f"Giving {_jobs(running)} back, for other workers to run. {{again}} ends this one without that.")


def releasing_all(signum: int) -> None:
    """Say to people that the running jobs of several processes go back to their queues."""
    _say(signum, "Giving back what runs, for other workers to run. {again} ends it all without that.")


def ended(signum: int) -> None:
    """Say that the process ends here and now, and what becomes of its jobs."""
    log.warning("process_ended_at_once", signal=signal.Signals(signum).name)
    _say(signum, "Ended at once. What it had not given back, other workers take over when the leases end.")


def leave_it_to_the_supervisor() -> None:
    """Say nothing to people from here on: where this is one of several processes, one speaks for all."""
    global _speaks  # noqa: PLW0603 - a process has one terminal
    _speaks = False


def _log_stop(signum: int, running: int, how: str) -> None:
    log.info("worker_stopping", signal=signal.Signals(signum).name, running=running, how=how)


def _jobs(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


def _say(signum: int, text: str) -> None:
    again = {signal.SIGINT: "Ctrl-C again", signal.SIGTERM: "One more signal"}.get(signal.Signals(signum))
    if again is None or not _speaks:  # no signal at all: the program itself stops its worker
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or gone with its window
        if sys.stderr.isatty():
            # A terminal shows ^C where the cursor stands.
            start = "\n" if signum == signal.SIGINT else ""
            sys.stderr.write(f"{start}{text.format(again=again)}\n")
            sys.stderr.flush()
