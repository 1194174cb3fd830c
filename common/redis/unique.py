"""Enqueues under a unique key, as a typed method over its one script.

Owns the layout of enqueue_unique.lua's arguments and reply. What a key is made of is common/uniqueness.py's; who signs
what another job is to have, producer/unique.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import redis.asyncio

from common.redis.layout import bounds, id_bytes
from common.redis.reasons import ServerError
from common.redis.records import Enqueue, Rank
from common.redis.scripts import Script, ScriptCall, call_scripts
from common.redis.wire import Argument
from common.uniqueness import Rule

__all__ = ["SCRIPTS", "Signed", "UniqueAnswer", "UniqueEnqueue", "UniqueStore"]

ENQUEUE_UNIQUE = Script("enqueue_unique")

SCRIPTS = (ENQUEUE_UNIQUE,)

_MOST_PER_CALL = 250
"""Jobs in one script call: each costs the server several times what a plain one does."""

_ANY = "surrogateescape"

Word = Literal["added", "there", "replaced", "rejected", "sign", "refused"]


class Signed(NamedTuple):
    """The job and queue that a payload is signed for."""

    job_id: str
    queue: str
    payload: bytes = b""


class UniqueEnqueue(NamedTuple):
    """One job to add, unless one of its key is there.

    Attributes:
        key: from `digest_of`.
        minted: whether the id was made for this enqueue, so that nobody else can have it.
        signed: None where nothing is signed; else what it may be replaced by, as far as that is signed yet. Without a
            payload, the job's own will do.
    """

    job: Enqueue
    key: str
    rule: Rule
    minted: bool
    signed: Signed | None = None

    @property
    def size(self) -> int:
        """Bytes it takes on the wire, about."""
        return len(self.job.payload) + (0 if self.signed is None else len(self.signed.payload))


class UniqueAnswer(NamedTuple):
    """What became of one job.

    Attributes:
        word: "added"; "there" (nothing was done); "replaced"; "rejected"; "sign" (sign for this job, and ask again).
        job_id, queue: of the job that is there now.
    """

    word: Word
    job_id: str
    queue: str


class UniqueStore:
    """The unique keys of one server."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def enqueue(self, jobs: Sequence[UniqueEnqueue]) -> list[UniqueAnswer | ServerError]:
        """Add jobs in order, hundreds in one round trip; return for each what became of it.

        An error says that the server refused the job; others of the same call may be added all the same.

        Raises:
            redis.exceptions.ConnectionError and the like: it is not known which were added.
        """
        calls: list[ScriptCall] = []
        counts: list[int] = []
        for start, end in bounds([job.size for job in jobs], _MOST_PER_CALL):
            calls.append((ENQUEUE_UNIQUE, *_arguments(jobs[start:end])))
            counts.append(end - start)
        answers: list[UniqueAnswer | ServerError] = []
        for count, reply in zip(counts, await call_scripts(self.client, calls), strict=True):
            if isinstance(reply, ServerError):
                answers += [reply] * count
            else:
                answers += [_answer(*reply[at : at + 3]) for at in range(0, len(reply), 3)]
        return answers


def _arguments(jobs: Sequence[UniqueEnqueue]) -> tuple[list[str], list[Argument]]:
    """Return the script's keys and arguments for these jobs."""
    queues: dict[str, int] = {}
    arguments: list[Argument] = []
    for job, key, rule, minted, signed in jobs:
        other_queue = -1 if signed is None else queues.setdefault(signed.queue, len(queues))
        arguments += (
            queues.setdefault(job.queue, len(queues)), key, id_bytes(job.job_id), job.payload, int(minted),
            rule.quiet_ms or job.delay_ms, job.at_ms, job.expires_ms,
            rule.until, rule.window_ms, rule.on_conflict, rule.at_most_ms,
            other_queue, b"" if signed is None else id_bytes(signed.job_id), b"" if signed is None else signed.payload,
            *(Rank() if job.rank is None else job.rank),
        )  # fmt: skip
    return list(queues), arguments


def _answer(word: bytes, job_id: bytes, queue: bytes) -> UniqueAnswer | ServerError:
    if word == b"refused":
        return ServerError(job_id.decode("utf-8", "replace"))
    name: Any = word.decode()
    return UniqueAnswer(name, job_id.decode("utf-8", _ANY), queue.decode("utf-8", _ANY))
