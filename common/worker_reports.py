"""What a worker says of itself and of its attempts, in the form in which it travels: JSON, bounded in bytes.

Owns that form. What a worker puts into it is workers/reports.py's, what many reports say together common/fleet.py's,
where they are kept common/redis/fleet.py's. An attempt's arguments and its result are never in it.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "FAILURES",
    "LONGEST_ERROR",
    "LONGEST_ID",
    "LONGEST_NAME",
    "AttemptLines",
    "EndedAttempt",
    "Figures",
    "RunningAttempt",
    "TaskFigures",
    "WorkerReport",
    "bounded",
]

LONGEST_ID = 256
LONGEST_NAME = 200
LONGEST_ERROR = 300
"""Characters of a job's id, of the name of a task or a queue, and of an error, that a report has room for."""

FAILURES = frozenset({"retried", "failed", "timed_out", "lost"})
"""Outcomes of an attempt that did not do what it was to: whether its job is tried again or not."""


class RunningAttempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt that runs now. `started_ms` is Unix ms by the server's clock."""

    job_id: str
    task: str
    queue: str
    attempt: int
    started_ms: int
    worker: str = ""


class EndedAttempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt that has ended, and whose outcome is recorded: never its arguments or its result.

    Attributes:
        outcome: a word of common.jobs.OutcomeKind.
        ended_ms: Unix ms by the server's clock.
        queued_ms: from due to start.
        run_ms: from start to end.
        busy_ms: of these, how long it held its worker's event loop.
        error: `Class: message`, cut to 300 characters.
        retry_in_ms: until the job's next attempt; None where there is none.
    """

    job_id: str
    task: str
    queue: str
    attempt: int
    outcome: str
    ended_ms: int
    queued_ms: int
    run_ms: float
    busy_ms: float = 0.0
    worker: str = ""
    error: str | None = None
    retry_in_ms: int | None = None

    @property
    def failed(self) -> bool:
        """Whether it did not do what it was to, be its job tried again or not."""
        return self.outcome in FAILURES


class AttemptLines(msgspec.Struct, omit_defaults=True):
    """What a worker tells who follows attempts: some that have ended, and how many it left out, being too many."""

    worker: str
    attempts: list[EndedAttempt] = []
    left_out: int = 0


class TaskFigures(msgspec.Struct, omit_defaults=True):
    """What one worker counted of one task.

    Attributes:
        outcomes: how many attempts ended in which way.
        queue_wait, run: how many took so long, for each of SECONDS_BOUNDS, and last for what took longer.
        queue_wait_s, run_s, busy_s: seconds of all of them together: waiting, running, holding the event loop.
    """

    outcomes: dict[str, int]
    queue_wait: list[int]
    run: list[int]
    queue_wait_s: float = 0.0
    run_s: float = 0.0
    busy_s: float = 0.0


class Figures(msgspec.Struct, omit_defaults=True):
    """What a worker counts only while somebody observes it.

    Attributes:
        since_ms: when it began to count, Unix ms by the server's clock; another number is another count.
        tasks: by name, those with most attempts where they are more than a report has room for.
        slowest: of the last minute, the slowest first.
    """

    since_ms: int
    tasks: dict[str, TaskFigures] = {}
    slowest: list[EndedAttempt] = []


class WorkerReport(msgspec.Struct, omit_defaults=True):
    """What a worker says of itself, some times a minute; every second while somebody observes it.

    Attributes:
        parent: the pid of the process that has started it: its supervisor's, where it has one.
        version, python, arq: of Barque, Python and arq.
        started_ms, reported_ms: Unix ms by the server's clock.
        running: attempts running now.
        given_up: attempts that would not be stopped: their outcome is recorded, and they run on.
        succeeded, retried, failed: attempts since its start.
        state: "running", or the first of its reasons.
        reasons: why it takes no jobs, in words, by what workers/wellbeing.py calls them: "starting", "stopping",
            "fenced" (others may have its jobs), "loop_blocked", "server_away", "paused" (all its queues are).
        paused: what of its queues and tasks is paused, as `queue:<name>` and `task:<name>`; some of it, where it is
            much.
        rss: bytes of memory it has in use; None where the system does not tell.
        cpu_s: seconds of processor time since its start.
        loop_lag_ms: by how much its event loop was last late, and at the worst since the report before; asked twice a
            second. None where it was not asked yet.
        running_in: attempts running now by queue, where it serves several.
        longest: the attempts that run for longest now, up to 20.
        failures: the last attempts that failed, whether they are retried or not, up to 20, the newest last.
        page: where its metrics and probes are, as host:port; "" where it has no such page.
        figures: what it counts while somebody observes it; None while nobody does.
    """

    worker: str
    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    concurrency: int
    started_ms: int
    reported_ms: int
    running: int = 0
    given_up: int = 0
    succeeded: int = 0
    retried: int = 0
    failed: int = 0
    state: str = "running"
    reasons: dict[str, str] = {}
    paused: tuple[str, ...] = ()
    python: str = ""
    arq: str = ""
    rss: int | None = None
    cpu_s: float = 0.0
    loop_lag_ms: float | None = None
    worst_loop_lag_ms: float | None = None
    running_in: dict[str, int] = {}
    longest: tuple[RunningAttempt, ...] = ()
    failures: tuple[EndedAttempt, ...] = ()
    page: str = ""
    parent: int = 0
    figures: Figures | None = None

    @property
    def ended(self) -> int:
        """Attempts that have ended since its start."""
        return self.succeeded + self.retried + self.failed

    @property
    def is_paused(self) -> bool:
        """Whether every queue it serves is paused, so that it claims nothing."""
        return all(f"queue:{queue}" in self.paused for queue in self.queues)

    def runs_in(self, queue: str) -> int:
        """Return how many attempts of a queue's jobs it runs now."""
        if len(self.queues) == 1:
            return self.running if queue in self.queues else 0
        return self.running_in.get(queue, 0)


def bounded(text: str, most: int) -> str:
    r"""Return a text as a report can hold it: cut to so many characters, halves of surrogate pairs shown (`\udc80`).

    Ids and names come from outside, and may be any bytes.
    """
    if len(text) > most:
        text = f"{text[: most - 1]}…"
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
