"""What the ledgers say happened: every acknowledged enqueue, every start and every end of an attempt.

Owns the reading, outside of Barque and of the Redis under test. Judges nothing; verdict.py does.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["JobRecord", "Oracle", "Run"]


class Run:
    """One attempt as the process that made it recorded it.

    Attributes:
        worker: the label of its process.
        ended: None while it runs, and for ever if its process was killed.
        how: done, cancelled or raised; "" without an end.
    """

    __slots__ = ("attempt", "ended", "how", "started", "worker")

    def __init__(self, worker: str, attempt: int, started: float) -> None:
        self.worker = worker
        self.attempt = attempt
        self.started = started
        self.ended: float | None = None
        self.how = ""

    def __repr__(self) -> str:
        end = f"{self.how} at {self.ended:.3f}" if self.ended is not None else "no end"
        return f"<attempt {self.attempt} by {self.worker} from {self.started:.3f}, {end}>"


class JobRecord:
    """One job.

    Attributes:
        acknowledged: when its enqueue returned; None if it never did.
        sent: when it was enqueued for the first time.
        delay: seconds it was to wait at least.
        refused: enqueues of it that raised.
        runs: its attempts.
    """

    __slots__ = ("acknowledged", "delay", "refused", "runs", "sent")

    def __init__(self) -> None:
        self.acknowledged: float | None = None
        self.sent = 0.0
        self.delay = 0.0
        self.refused = 0
        self.runs: list[Run] = []


class _Tail:
    """Reads whole lines that were appended to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[bytes]:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole, _, _ = data.rpartition(b"\n")
        if not whole:
            return []
        self._offset += len(whole) + 1
        return whole.split(b"\n")


class Oracle:
    """The ledgers of all processes of one trial, read as they grow.

    Attributes:
        jobs: by id.
        ready: labels of processes that said they are.
        done: jobs with an attempt that returned.
        pending: acknowledged jobs without one.
        blocked: (worker, from, to) of event loops that stood still.
        last_done: for each worker, when the latest of its attempts that returned began.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tails: dict[str, _Tail] = {}
        self._open: dict[str, dict[tuple[str, int], Run]] = {}
        self.jobs: dict[str, JobRecord] = {}
        self.ready: set[str] = set()
        self.done: set[str] = set()
        self.pending: set[str] = set()
        self.blocked: list[tuple[str, float, float]] = []
        self.last_done: dict[str, float] = {}
        self.acknowledged = self.refused = self.attempts = 0

    def read(self) -> None:
        """Read what is new."""
        for path in self._folder.glob("*.ledger"):
            label = path.stem
            if label not in self._tails:
                self._tails[label] = _Tail(path)
                self._open[label] = {}
            for line in self._tails[label].read():
                self._take(label, line.decode().split(" "))

    def in_hand(self, worker: str) -> list[str]:
        """Return the jobs whose attempts by this worker have begun and not ended."""
        return [job_id for job_id, _ in self._open.get(worker, {})]

    def in_order(self) -> None:
        """Sort each job's attempts by their numbers.

        A worker that was frozen may begin its attempt after the one that took over from it. Attempts that were
        released are not counted: two of one number are in the order of their starts.
        """
        for record in self.jobs.values():
            record.runs.sort(key=lambda run: (run.attempt, run.started))

    def _take(self, label: str, words: list[str]) -> None:
        match words:
            case ["s", time, job_id, attempt]:
                run = Run(label, int(attempt), float(time))
                self._job(job_id).runs.append(run)
                self._open[label][job_id, run.attempt] = run
                self.attempts += 1
            case ["e", time, job_id, attempt, how]:
                run = self._open[label].pop((job_id, int(attempt)))
                run.ended, run.how = float(time), how
                if how == "done":
                    self.last_done[label] = max(run.started, self.last_done.get(label, 0.0))
                    self.done.add(job_id)
                    self.pending.discard(job_id)
            case ["a", time, job_id, sent, delay]:
                record = self._job(job_id)
                record.acknowledged, record.sent, record.delay = float(time), float(sent), int(delay) / 1000
                self.acknowledged += 1
                if job_id not in self.done:
                    self.pending.add(job_id)
            case ["u", _, job_id]:
                self._job(job_id).refused += 1
                self.refused += 1
            case ["b", began, ended]:
                self.blocked.append((label, float(began), float(ended)))
            case ["r", _]:
                self.ready.add(label)
            case _:
                raise ValueError(f"the ledger of {label} has a line nobody writes: {' '.join(words)}")

    def _job(self, job_id: str) -> JobRecord:
        record = self.jobs.get(job_id)
        if record is None:
            record = self.jobs[job_id] = JobRecord()
        return record
