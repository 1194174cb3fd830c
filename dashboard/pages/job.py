"""One job: all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from common.attempts import AttemptInfo
from common.dead_letters import DeadLetter
from common.errors import JobNotFound
from common.jobs import JobInfo, JobState, RemoteError
from dashboard.pages.timeline import draw_timeline
from dashboard.pages.view import Page, View
from dashboard.pages.words import call_text, indented, short_error
from dashboard.security.masking import Masking
from producer import Producer

__all__ = ["JOB", "find"]

_MOST_LINES = 500
"""Lines of a job's log that are shown, the last ones."""


@dataclass(frozen=True, slots=True)
class Found:
    """One job, and the dead letter that is kept of it."""

    info: JobInfo
    letter: DeadLetter | None
    pauses: tuple[str, ...]

    @property
    def waits(self) -> bool:
        """Whether it waits to be started."""
        return self.info.state in {JobState.QUEUED, JobState.SCHEDULED}

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.waits or self.info.state is JobState.RUNNING

    @property
    def task(self) -> str | None:
        """Its task, as far as that is known."""
        return self.info.task or (self.letter.task if self.letter else None)

    @property
    def queue(self) -> str | None:
        """Its queue, as far as that is known."""
        return self.info.queue or (self.letter.queue if self.letter else None)

    @property
    def error(self) -> RemoteError | None:
        """What it failed of; of a dead letter with its traceback."""
        if self.letter is not None and (self.info.error is None or not self.info.error.traceback):
            return self.letter.error
        return self.info.error

    @property
    def arguments(self) -> tuple[Any, Mapping[str, Any]] | None:
        """What it was called with; None where that cannot be read here."""
        if self.info.task is not None:
            return self.info.arguments, self.info.keyword_arguments
        if self.letter is not None and self.letter.unreadable is None:
            return self.letter.arguments, self.letter.keyword_arguments
        return None


class AttemptRow(NamedTuple):
    """One attempt, as the list of them shows it.

    Attributes:
        took: ms; None where that is not known.
        said: its error in a line, or why it was put off.
    """

    info: AttemptInfo
    took: float | None
    said: str
    is_error: bool
    traceback: str


async def find(view: View, job_id: str) -> Found:
    """Return what is known of a job.

    Args:
        view: its address may name the job's queue.

    Raises:
        JobNotFound: nothing is.
    """

    async def read(producer: Producer) -> tuple[JobInfo, DeadLetter | None]:
        queues = await producer.inspector.queues_in_use(view.dashboard.source.settings.queues)
        named = view.query.get("queue")
        info = JobInfo(job_id, JobState.UNKNOWN)
        for queue in dict.fromkeys([*([named] if named else []), *queues]):
            info = await producer.inspector.job(job_id, queue)
            if info.state is not JobState.UNKNOWN:
                break
        try:
            return info, await producer.dead.get(job_id)
        except JobNotFound:
            return info, None

    info, letter = await view.ask(f"job {job_id}", read)
    if info.state is JobState.UNKNOWN and letter is None:
        raise JobNotFound(
            f"nothing is known of job {job_id}: it was never enqueued, or it has ended and its result is no longer "
            "kept (BARQUE_KEEP_RESULT); or it is in a queue that no live worker serves and BARQUE_QUEUES does not name",
            job_id=job_id,
        )
    look = await view.look()
    mine = {"queue": info.queue, "task": info.task}
    held = [pause for pause in look.pauses if mine[pause.kind] == pause.name]
    return Found(info, letter, tuple(f"the {pause.kind} {pause.name} is paused" for pause in held))


async def _read(view: View) -> Mapping[str, Any]:
    job_id = view.path["job_id"]
    found = await find(view, job_id)
    masking = view.dashboard.masking
    info, now_ms = found.info, (await view.look()).now_ms
    return {
        "job_id": job_id,
        "found": found,
        "info": info,
        "state": info.state.value if info.state is not JobState.UNKNOWN else "dead",
        "times": _times(found),
        "call": _call(found, masking),
        "metadata": indented(masking.named(info.metadata)) if info.metadata else None,
        "result": indented(masking.value(info.result)) if info.state is JobState.SUCCEEDED else None,
        "error": _error(found, masking),
        "attempts": [_attempt(each, masking) for each in reversed(info.attempts)],
        "timeline": draw_timeline(info, datetime.fromtimestamp(now_ms / 1000, tz=UTC)),
        "logs": [(each, masking.text(each.text)) for each in info.logs[-_MOST_LINES:]],
        "progress_words": masking.text(info.progress.message) if info.progress else "",
    }


JOB = Page("job.html", "jobs", _read)


def _times(found: Found) -> list[tuple[str, datetime]]:
    info, letter = found.info, found.letter
    # A running job's due time is the end of its lease.
    due = ("Lease ends" if info.state is JobState.RUNNING else "Due", None if info.state.ended else info.due_at)
    named = [
        ("Enqueued", info.enqueued_at or (letter.enqueued_at if letter else None)),
        due,
        ("Started", info.started_at or (letter.started_at if letter else None)),
        ("Finished", info.finished_at or (letter.died_at if letter else None)),
        ("Dead letter kept until", letter.expires_at if letter else None),
    ]
    return [(name, when) for name, when in named if when is not None]


def _call(found: Found, masking: Masking) -> str | None:
    if found.arguments is None:
        return None
    given, named = found.arguments
    if masking.shows_nothing:
        return str(masking.value(given))
    return call_text(found.task, masking.arguments(found.task, given), masking.named(named))


def _attempt(attempt: AttemptInfo, masking: Masking) -> AttemptRow:
    error, took = attempt.error, None
    if attempt.started_at is not None and attempt.finished_at is not None:
        took = (attempt.finished_at - attempt.started_at).total_seconds() * 1000
    said = masking.text(attempt.reason)
    if error is not None:
        said = short_error(error.type, masking.text(error.message))
    traceback = masking.text(error.traceback, whole=True) if error is not None else ""
    return AttemptRow(attempt, took, said, error is not None, traceback)


def _error(found: Found, masking: Masking) -> RemoteError | None:
    error = found.error
    if error is None:
        return None
    return RemoteError(error.type, masking.text(error.message), masking.text(error.traceback, whole=True))
