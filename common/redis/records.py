"""What goes into the store and comes out of it: one record a thing, all plain data. Owns no behaviour.

What there is one of for every job, however small, is a msgspec struct: made in a third of a named tuple's time.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import msgspec

from common.redis.scores import Past

__all__ = [
    "Claim",
    "Claimed",
    "Enqueue",
    "Finish",
    "FreshJobs",
    "Held",
    "HeldLease",
    "Letter",
    "Order",
    "PutBack",
    "Rank",
    "Refusals",
    "Renewal",
]


class Rank(NamedTuple):
    """What of a job decides when its turn is, besides its due time.

    Attributes:
        priority: from 0, normal, to 9.
        lane: of its tenant, from `lane_of` (common/fairness.py); "" for none.
    """

    priority: int = 0
    lane: str = ""


class Enqueue(msgspec.Struct, frozen=True):
    """One job to add.

    Attributes:
        fresh: the id is new for certain, the job is due now and never expires.
        delay_ms: due after this by the server's clock, unless `at_ms` (Unix ms) is given.
        expires_ms: not started after this; 0 is never.
        rank: None for a job whose turn comes by its due time alone.
    """

    queue: str
    job_id: str
    payload: bytes
    fresh: bool = True
    delay_ms: int = 0
    at_ms: int = 0
    expires_ms: int = 0
    rank: Rank | None = None


class FreshJobs(NamedTuple):
    """Jobs of one queue to add as `Enqueue` does with `fresh`: of equal length, in order."""

    queue: str
    job_ids: list[str]
    payloads: list[bytes]


class Order(NamedTuple):
    """How a claim that asks several queues divides its room among them.

    Attributes:
        weights: of each queue; what one leaves goes to the others. Without weights the first queue is served first.
        aging_ms: without weights, a queue that is not the first has a share once its oldest job has waited so long; 0
            gives it none.
    """

    weights: tuple[int, ...] = ()
    aging_ms: int = 0


class Claimed(msgspec.Struct, gc=False):
    """One job taken under a lease, which it names to the server as a `HeldLease` does.

    Attributes:
        payload: None when the job expired, or was never there.
        due_ms: Unix ms it was due at; of one that was passed on, at first.
        aborted: since when it is to be ended as cancelled, not run, as a score of `arq:abort`; 0 where nobody asked.
        queue: index of its queue among those asked for.
        past: how it came to be due.
        attempt: its number; 0 is the first one of a job that has a history all the same: one before was not counted.
        priority: what it had a head start for.
    """

    job_id: str
    payload: bytes | None
    attempt: int
    due_ms: int
    aborted: float
    queue: int
    token: str
    past: Past = ""
    priority: int = 0


class Claim(msgspec.Struct):
    """What one claim brought.

    Attributes:
        now_ms: the server's clock, Unix ms.
        next_due_ms: the earliest due time in the future; None if there is none, or as many were taken as asked for.
        waiting: jobs in all the queues, running ones included.
    """

    now_ms: int
    next_due_ms: int | None
    waiting: int
    jobs: list[Claimed]


class HeldLease(NamedTuple):
    """What names one running attempt to the server.

    Attributes:
        attempt: as it was claimed; see `Claimed`.
    """

    queue: int
    job_id: str
    token: str
    attempt: int


Held: TypeAlias = HeldLease | Claimed
"""The lease of a running attempt: of most, as it was claimed."""


class Letter(NamedTuple):
    """What a job that has ended leaves behind besides its result.

    Mostly it failed for good, and this is for people to look at and to replay.

    Attributes:
        payload: the job as it was claimed, whatever it is.
        about: what a list shows of it (common/dead_letters.py).
        traceback: UTF-8, or empty.
        keep_ms: keep it so long; 0 for a job that leaves no letter but an entry alone.
        most: letters there are to be at the most, this one included; older ones go.
        entry: what its last attempt adds to the job's history (common/attempts.py), or empty.
    """

    payload: bytes
    about: bytes
    traceback: bytes
    keep_ms: int
    most: int
    entry: bytes = b""

    @property
    def size(self) -> int:
        """Bytes it takes on the wire, about."""
        return len(self.payload) + len(self.about) + len(self.traceback) + len(self.entry)


class Finish(msgspec.Struct, gc=False):
    """Outcome: the job has ended.

    Attributes:
        keep_ms: keep the result so long; 0 does not keep it, -1 keeps it for ever.
        done_ms: refuse another enqueue of this id so long (arq's cron ticks); 0 is not at all.
        letter: what it leaves behind besides; None for most.
    """

    lease: Held
    result: bytes
    keep_ms: int
    done_ms: int = 0
    letter: Letter | None = None


class PutBack(NamedTuple):
    """Outcome: the job goes back to its queue.

    Attributes:
        how: "retry" is due after `when` ms; "return" is due at `when` (Unix ms), attempt counted;
            "release" is due at `when`, attempt not counted.
        when: text where it is a score with a fraction (scores.py).
        priority, lane: of a "retry" or "release": what it has a head start for, and where it joins, once it is due.
        entry: what the attempt adds to the job's history, or empty.
    """

    lease: Held
    how: Literal["retry", "return", "release"]
    when: int | str
    priority: int = 0
    lane: str = ""
    entry: bytes = b""


class Renewal(NamedTuple):
    """What a renewal brought: the attempts whose lease is lost; those to abort, with the score of the wish."""

    lost: list[Held]
    aborted: list[tuple[Held, float]]


class Refusals(NamedTuple):
    """The outcomes of a call that changed nothing, as indexes.

    Attributes:
        lost: the attempt's lease was another's, or nobody's, by then.
        repeated: sent again, and recorded by the first sending.
    """

    lost: list[int]
    repeated: list[int]
