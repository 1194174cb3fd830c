"""What is promised of jobs, held against the store's answers and the bare keyspace: no word of how it is done.

`Promises` hears what the store told producers and workers, and looks at what the server holds. It does not know the
model, so a mistake that were made in both, the scripts and the model, is seen here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from common.redis import keys
from tests.chaos.store_model import DONE, STOCK, Outcome, Taken, shown_time

__all__ = ["Promises"]


@dataclass
class Life:
    """One job from its acknowledged enqueue to its end.

    Attributes:
        attempts: begun and not given back.
        holder: the token of the attempt that has it, or had it last.
        until: the end of that attempt's lease.
        disturbed: a foreign program wrote its score or its count; no number is promised then.
        optional: it may be dropped: a stock producer's second enqueue of a cron tick.
    """

    open: bool = True
    attempts: int = 0
    holder: str | None = None
    until: int = 0
    disturbed: bool = False
    optional: bool = False
    result: bytes | None = None


class Promises:
    """The promises of docs/job_lifecycle.md and docs/decisions/0006."""

    def __init__(self) -> None:
        self.lives: defaultdict[str, Life] = defaultdict(lambda: Life(open=False))
        self._tokens: set[tuple[str, str]] = set()

    def acknowledged(self, job_id: str, *, foreign: bool = False, optional: bool = False) -> None:
        self.lives[job_id] = Life(disturbed=foreign, optional=optional)

    def disturbed(self, job_id: str) -> None:
        self.lives[job_id].disturbed = True

    def open_jobs(self) -> list[str]:
        return [job_id for job_id, life in self.lives.items() if life.open and not life.optional]

    def claimed(self, taken: Taken, until: int, now: int) -> None:
        life = self.lives[taken.job_id]
        assert life.open, f"{taken.job_id} has ended and was claimed"
        assert (taken.job_id, taken.token) not in self._tokens, f"{taken.token} was given to two attempts"
        assert life.holder is None or life.until <= now, f"{taken.job_id} has two live leases"
        life.attempts += 1
        assert life.disturbed or taken.attempt == life.attempts, f"{taken}: this is attempt {life.attempts}"
        self._tokens.add((taken.job_id, taken.token))
        life.holder, life.until = taken.token, until

    def renewed(self, job_id: str, token: str, until: int, now: int) -> None:
        life = self.lives[job_id]
        assert life.open, f"{job_id} has ended and was renewed"
        assert life.holder == token, f"{job_id}: {token} renewed the lease of {life.holder}"
        assert life.until > now, f"{job_id}: {token} renewed a lease that was over"
        life.until = until

    def recorded(self, outcome: Outcome, now: int, *, again: bool) -> None:
        """Hear that an outcome counts."""
        life = self.lives[outcome.job_id]
        said = f"{outcome.kind} of {outcome.job_id} by {outcome.token}"
        assert life.open, f"{said}: it had ended"
        # What is left of a lease that is over is the attempt's number. So an outcome that is sent again may end another
        # attempt of the same number whose lease is over too: the next one after a release, or one of a later job that
        # was enqueued under the id of one whose result was not kept.
        number = life.holder.split(":")[1] if life.holder else ""
        lapsed = again and life.until <= now and (number == str(outcome.attempt) or life.disturbed)
        assert life.holder == outcome.token or lapsed, f"{said}: {life.holder} has it"
        assert life.until > now or again, f"{said}: its lease was over"
        life.holder = None
        if outcome.kind == "finish":
            self.ended(outcome.job_id, outcome.result if outcome.keep else None)
        elif outcome.kind == "release":
            life.attempts -= 1

    def ended(self, job_id: str, result: bytes | None) -> None:
        life = self.lives[job_id]
        assert life.open, f"{job_id} ended twice"
        life.open, life.holder, life.result = False, None, result

    def look(self, space: dict[str, Any], now: int) -> None:
        """See that the server holds what was promised."""
        queues = {key: value for key, value in space.items() if key.startswith("queue:")}
        places: defaultdict[str, list[str]] = defaultdict(list)
        for queue, jobs in queues.items():
            for job_id in jobs:
                places[job_id].append(queue)
        for job_id, life in self.lives.items():
            where = places[job_id]
            if life.open and not life.optional:
                assert len(where) == 1, f"{job_id} was acknowledged and is in {where or 'no queue'}"
            result = space.get(keys.result(job_id))
            if result is not None and life.result is not None:
                kept = result[0] if isinstance(result, tuple) else result
                assert kept == life.result, f"the result of {job_id} was overwritten"
            lease = space.get(keys.lease(job_id))
            if life.holder is None or life.disturbed or life.until <= now:
                continue
            assert lease == (life.holder.encode(), f"{60 * (life.until - now)}s"), f"{job_id}: {lease} is no lease"
            score = queues[where[0]][job_id]
            assert score == shown_time(life.until - now, begun=True), f"{job_id} runs, and is due at {score}"
        for key, value in space.items():
            if key.startswith(keys.LEASE) and isinstance(value, tuple) and value[0].decode() not in {STOCK, DONE}:
                life = self.lives[key.removeprefix(keys.LEASE)]
                assert life.holder == value[0].decode(), f"{key}: nobody was told of {value[0]!r}"
