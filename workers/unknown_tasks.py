"""Jobs of tasks that this worker does not know: when each is put back to, for how long, and what is said of it.

Owns the pace at which they come back and the log line about them; what is due when is in the job's score
(common/redis/scores.py), so nothing is kept here of any job. While a new version is rolled out, old workers meet jobs
that only new ones know: those wait for a worker that does, and no job of any other task waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import structlog

from common.errors import TaskNotFound
from common.redis.scores import put_off
from workers.attempt import Attempt
from workers.clock import ServerClock

__all__ = ["UnknownTasks"]

log = structlog.get_logger("barque.unknown_tasks")

_MOST_PER_SECOND = 1000
"""Jobs that one worker has come back each second: some hundredths of what it can do, however many there are."""

_SAY_EVERY_MS = 60_000
"""Between two lines about one name."""

_MOST_NAMES = 100
"""Names with lines of their own. Whoever can enqueue can make up any number of them."""

_MOST_COUNTED = 10_000
"""Jobs that are told apart for one line."""

_LONGEST_NAME = 200

_OTHERS = "(others)"


class UnknownTasks:
    """Puts off the jobs whose task this worker does not know, until their time is up.

    Args:
        known: names of the tasks it knows.
        wait: seconds a job waits for a worker that knows its task, from the first time one met it that did not;
            0 is not at all.
        clock: the server's.
    """

    def __init__(self, known: Collection[str], *, wait: float, clock: ServerClock) -> None:
        self._known = known
        self._wait = wait
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._next_slot_ms = 0.0
        self._names: dict[str, _Sightings] = {}

    def due_again(self, attempt: Attempt, task: str) -> str | None:
        """Return the score with which a job goes back to its queue; None once its time is up."""
        now = self._clock.now_ms()
        since = attempt.due_ms if attempt.past == "passed_on" else now
        if now - since >= self._wait * 1000:
            return None
        self._take_note(task, attempt.job_id, now)
        self._next_slot_ms = max(now, self._next_slot_ms + 1000 / _MOST_PER_SECOND)
        job_id = attempt.job_id.encode(errors="surrogateescape")
        return put_off(job_id, since_ms=since, after_ms=round(self._next_slot_ms))

    def not_found(self, task: str) -> TaskNotFound:
        """Return the error of a job that is not put off any more."""
        found = f"function {task!r} not found among the {len(self._known)} of this worker"
        if self._wait:
            found += f", and no other took the job within {self._wait:g} s (BARQUE_UNKNOWN_TASK_WAIT)"
        near = self._nearest(task)
        hint = f"did you mean {near!r}?" if near else "start a worker whose BARQUE_TASKS names the module that has it"
        return TaskNotFound(f"{found}; {hint}")

    def _nearest(self, task: str) -> str | None:
        if len(task) > _LONGEST_NAME:  # looking for one takes time with its length, and it is no slip of the pen
            return None
        import difflib  # noqa: PLC0415 - as in common/settings.py

        return next(iter(difflib.get_close_matches(task, self._known, n=1)), None)

    def _take_note(self, task: str, job_id: str, now: int) -> None:
        name = task[:_LONGEST_NAME]
        sightings = self._names.get(name)
        if sightings is None:
            sightings = self._begin(name, now)
        if len(sightings.jobs) < _MOST_COUNTED:
            sightings.jobs.add(job_id)
        if now >= sightings.quiet_until_ms:
            sightings.quiet_until_ms = now + _SAY_EVERY_MS
            # After all jobs of the claim that brought this one, so that the first line counts them.
            self._loop.call_soon(self._say, sightings)

    def _begin(self, name: str, now: int) -> _Sightings:
        if len(self._names) >= _MOST_NAMES:
            self._names = {known: seen for known, seen in self._names.items() if now < seen.quiet_until_ms}
            if len(self._names) >= _MOST_NAMES:
                name = _OTHERS
        return self._names.setdefault(name, _Sightings(name))

    def _say(self, sightings: _Sightings) -> None:
        count, sightings.jobs = len(sightings.jobs), set()
        log.warning(
            "task_unknown",
            task=sightings.name,
            jobs=count,
            did_you_mean=self._nearest(sightings.name),
            fail_after_s=self._wait,
        )


class _Sightings:
    """What there is to say about one name."""

    __slots__ = ("jobs", "name", "quiet_until_ms")

    def __init__(self, name: str) -> None:
        self.name = name
        self.jobs: set[str] = set()
        self.quiet_until_ms = 0
