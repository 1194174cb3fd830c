"""Every key name, as functions and constants: arq's names for what arq has, `barque:` for the rest.

The names stand here as literals, so that a producer need not import arq; tests/contract holds them
against `arq.constants`. docs/key_layout.md says what each key holds.
"""

from __future__ import annotations

__all__ = [
    "ABORT",
    "ATTEMPTS",
    "ATTEMPTS_CHANNEL",
    "AWAITED",
    "CONFIRMED",
    "CONTROL_CHANNEL",
    "DEAD",
    "DEAD_ABOUT",
    "DEAD_LETTER",
    "FAIR",
    "HEALTH_SUFFIX",
    "JOB",
    "LANE",
    "LANED",
    "LANES",
    "LEASE",
    "LIFT",
    "LIMIT",
    "LIMITS",
    "LIMIT_HELD",
    "LIMIT_LANE",
    "LIMIT_WAIT",
    "NUDGE",
    "OBSERVE_CHANNEL",
    "PAUSED",
    "PROGRESS",
    "RESULT",
    "RETRY",
    "SCHEDULES",
    "SCHEDULES_DECLARED",
    "SCHEDULES_LAST",
    "SCHEDULES_NEXT",
    "SCHEDULES_PAUSED",
    "SCHEDULES_REVISION",
    "STREAM",
    "UNIQUE",
    "UNIQUES",
    "WAITERS",
    "WAKE",
    "WATCHERS",
    "WORKER",
    "WORKERS",
    "attempts",
    "attempts_channel",
    "awaited",
    "dead_letter",
    "fair",
    "health",
    "job",
    "lane",
    "laned",
    "lanes",
    "lease",
    "lift",
    "limit_wait",
    "nudge",
    "observe_channel",
    "progress",
    "result",
    "result_channel",
    "retry",
    "stream",
    "unique",
    "wake",
    "watchers",
    "worker",
]

JOB = "arq:job:"
LEASE = "arq:in-progress:"
RETRY = "arq:retry:"
RESULT = "arq:result:"
ABORT = "arq:abort"
HEALTH_SUFFIX = ":health-check"

WAKE = "barque:wake:"
LIFT = "barque:lift:"
LANES = "barque:lanes:"
FAIR = "barque:fair:"
LANED = "barque:laned:"
LANE = "barque:lane:"
NUDGE = "barque:nudge:"
WAITERS = "barque:waiters"
"""Hash: job id -> the channels, space-separated, that want its result pushed."""
AWAITED = "barque:result:"
WORKERS = "barque:workers"
"""Sorted set: worker id -> Unix ms of its last report."""
WORKER = "barque:worker:"
CONFIRMED = "barque:confirmed"
"""Written, and gone a millisecond later, so that a confirmation covers what others wrote before."""
DEAD = "barque:dead"
"""Sorted set: job id -> Unix ms at which it failed for good; no two are equal."""
DEAD_ABOUT = "barque:dead:about"
"""Hash: job id -> what a list of dead letters shows of it."""
DEAD_LETTER = "barque:dead:letter:"
PAUSED = "barque:paused"
"""Hash: "queue:<name>" or "task:<name>" -> "<since, Unix ms> <what was said of it>"; "resuming:<task>" likewise."""
SCHEDULES = "barque:schedules"
"""Hash: name -> record."""
SCHEDULES_NEXT = "barque:schedules:next"
"""Sorted set: name -> Unix ms of its next tick, unless it is paused."""
SCHEDULES_LAST = "barque:schedules:last"
"""Hash: name -> "<tick> <enqueued at> <runs> <job id>", times in Unix ms."""
SCHEDULES_DECLARED = "barque:schedules:declared"
"""Hash: name -> "<digest>:<first seen>:<last seen> …", one for each version of the code that declares it."""
SCHEDULES_PAUSED = "barque:schedules:paused"
"""Sorted set: name -> since when it is paused, Unix ms."""
SCHEDULES_REVISION = "barque:schedules:revision"
"""Another number after each change of a schedule; not there where there are none."""
PROGRESS = "barque:progress:"
STREAM = "barque:stream:"
ATTEMPTS = "barque:attempts:"
WATCHERS = "barque:watchers:"
UNIQUE = "barque:unique:"
UNIQUES = "barque:unique"
"""Sorted set: unique key -> Unix ms at which an enqueue looks whether its job has gone."""
LIMITS = "barque:limits"
"""Sorted set: gate id -> until when its keys are kept, Unix ms. A gate is one limit for one key."""
LIMIT = "barque:limit:"
LIMIT_HELD = "barque:limit-held:"
"""Sorted set: job id -> until when its place is valid without a look at its lease, Unix ms."""
LIMIT_LANE = "barque:limit-lane:"
"""Sorted set: queue and job id -> when the job was due, Unix ms."""
LIMIT_WAIT = "barque:limit-wait:"
CONTROL_CHANNEL = "barque:control"
"""Channel: "abort <token> <job id>" for the worker whose attempt it is; "schedules", "pauses" when one was changed."""
OBSERVE_CHANNEL = "barque:observe:"
ATTEMPTS_CHANNEL = "barque:attempts:"


def job(job_id: str) -> str:
    """Return the key of a job's payload."""
    return JOB + job_id


def lease(job_id: str) -> str:
    """Return the key that exists while a job runs; its value is the lease token."""
    return LEASE + job_id


def retry(job_id: str) -> str:
    """Return the key that counts a job's attempts."""
    return RETRY + job_id


def result(job_id: str) -> str:
    """Return the key of a job's result."""
    return RESULT + job_id


def awaited(job_id: str) -> str:
    """Return the key of a result that is not to be kept but was waited for; it lives for a minute."""
    return AWAITED + job_id


def dead_letter(job_id: str) -> str:
    """Return the key of what a job that failed for good leaves behind: a hash with its payload as it was."""
    return DEAD_LETTER + job_id


def progress(job_id: str) -> str:
    """Return the key of how far a job is, as it last said."""
    return PROGRESS + job_id


def stream(job_id: str) -> str:
    """Return the key of the items a job emitted: a stream whose ids are `<run>-<number>`, the first one `<run>-0`."""
    return STREAM + job_id


def watchers(job_id: str) -> str:
    """Return the key of who follows a job's progress or stream now: channels and until when; it lives for seconds."""
    return WATCHERS + job_id


def attempts(job_id: str) -> str:
    """Return the key of a job's attempts that did not end it: a list, the oldest first."""
    return ATTEMPTS + job_id


def unique(key: str) -> str:
    """Return the key of the record of a unique key: a hash that names the job that has it."""
    return UNIQUE + key


def limit_wait(job_id: str) -> str:
    """Return the key that names the gate a job waits for; it goes by itself."""
    return LIMIT_WAIT + job_id


def health(queue: str) -> str:
    """Return the key `arq --check` reads."""
    return queue + HEALTH_SUFFIX


def wake(queue: str) -> str:
    """Return the key idle workers of a queue block on."""
    return WAKE + queue


def lift(queue: str) -> str:
    """Return the key of a queue's jobs that have a head start once they are due: a sorted set, id -> due time."""
    return LIFT + queue


def lanes(queue: str) -> str:
    """Return the key of a queue's lanes that have jobs: a hash, lane -> id of its head."""
    return LANES + queue


def fair(queue: str) -> str:
    """Return the key of the jobs of lanes that stand in the queue: a hash, id -> lane and place in the lane."""
    return FAIR + queue


def laned(queue: str) -> str:
    """Return the key of the jobs that wait in lanes: a hash, id -> lane."""
    return LANED + queue


def lane(queue: str, lane: str) -> str:
    """Return the key of one lane: a sorted set, id -> place in the lane."""
    return f"{LANE}{queue}:{lane}"


def nudge(worker_id: str) -> str:
    """Return the key that ends one worker's wait and nobody else's: its own, when it is to stop."""
    return NUDGE + worker_id


def worker(worker_id: str) -> str:
    """Return the key of a worker's report."""
    return WORKER + worker_id


def result_channel(listener_id: str) -> str:
    """Return the channel on which one producer process gets results pushed."""
    return f"barque:results:{listener_id}"


def observe_channel(database: int) -> str:
    """Return the channel on which workers are told that somebody looks on: "figures <s>" or "attempts <s>".

    Channels are of the whole server, and workers of one database have nothing to do with those of another.
    """
    return f"{OBSERVE_CHANNEL}{database}"


def attempts_channel(database: int) -> str:
    """Return the channel on which workers tell of attempts that have ended, while somebody listens."""
    return f"{ATTEMPTS_CHANNEL}{database}"
