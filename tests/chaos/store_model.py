"""A job's life as plain Python: the specification that common/redis/store.py is held against.

Time is counted in minutes since the world began, and stands still while something is done: what is due now is due,
what ends now has ended. `Model` has a method for each thing that can be done to jobs, by Barque and by stock arq;
each returns what the store should answer, and `keyspace` what should then be on the server, in the notation of
tests/support/keyspace.py.

The one thing that is left open is the wake marker where two jobs are due in the same minute (see `_call_a_worker`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from common.redis import keys

__all__ = ["AT_ONCE", "DONE", "STOCK", "Job", "Model", "Outcome", "Taken", "raw_id", "shown_time"]

AT_ONCE = -(10**6)
"""Due before all else: the score 1, which arq's `Job.abort` gives."""

STOCK = "1"
"""What a stock arq worker writes into the lease key."""

DONE = "done"
"""What an ended cron tick leaves there."""

HEAD_START = 60
"""A step of a priority, in minutes."""

LARGEST_PUSH = 65_536
FETCHED_FOR = 1
OLD_WISH = 24 * 60
STOCK_COUNT_KEPT = 1473
"""arq keeps its count of attempts for 88,400 s."""
STOCK_LEASE = 5
STOCK_RESULT_KEPT = 60
STOCK_PAYLOAD_KEPT = 24 * 60


class Kept(NamedTuple):
    """Bytes, and the minute in which they go; None is never."""

    value: bytes
    until: int | None = None


class Lease(NamedTuple):
    """Who has the job, and until when."""

    token: str
    until: int


class Taken(NamedTuple):
    """What a claim tells of one job. `due`: since when; `queue`: index among those asked for; `ahead`: as in `Job`."""

    job_id: str
    payload: bytes | None
    attempt: int
    due: int
    aborted: bool
    queue: int
    token: str
    ahead: int = 0


class Outcome(NamedTuple):
    """What a worker says of an attempt it had.

    Attributes:
        keep: minutes the result is kept; 0 is not at all, -1 for ever.
        done: minutes the ended id is refused.
        when: "retry": in so many minutes; "return" and "release": since when it was due.
        ahead: "return" and "release": what it had a head start for.
        priority: "retry": what it is to have one for, once it is due.
    """

    job_id: str
    queue: str
    token: str
    attempt: int
    kind: Literal["finish", "retry", "return", "release"]
    result: bytes = b""
    keep: int = 0
    done: int = 0
    when: int = 0
    ahead: int = 0
    priority: int = 0


@dataclass
class Job:
    """All there is of one id.

    Attributes:
        queue: where it waits, or runs: a job stays in its queue until it ends.
        due: the minute from which a worker may take it; while it runs, the end of its lease.
        ahead: the priority for which it stands before `due`.
        begun: an attempt took it until `due`. It runs, or was lost: then it is due again by itself.
        attempts: begun and not given back, the one that runs included.
        attempts_until: a stock worker's count goes by itself.
        noted: its attempts are counted from the start, so that it is known of when its payload is gone.
        wish: since when it is to be aborted.
        meant: the wish was made of this very job, and not by a stock client, of its id alone.
        waiters: who wants its result pushed.
        awaited: a result that is not kept, for those who waited and missed the push.
    """

    queue: str | None = None
    due: int = 0
    ahead: int = 0
    begun: bool = False
    payload: Kept | None = None
    attempts: int = 0
    attempts_until: int | None = None
    noted: bool = False
    lease: Lease | None = None
    result: Kept | None = None
    awaited: Kept | None = None
    wish: int | None = None
    meant: bool = False
    waiters: list[str] = field(default_factory=list)

    @property
    def counted(self) -> int:
        """Attempts that are written down: the one that took it is in its score."""
        return self.attempts - self.begun

    @property
    def runs(self) -> bool:
        return self.lease is not None and self.lease.token != DONE

    @property
    def is_known_of(self) -> bool:
        """Whether whoever asks for its result is told to wait."""
        return self.payload is not None or self.runs or self.counted > 0 or self.noted

    @property
    def place(self) -> int:
        """Where it stands in its queue."""
        return self.due - HEAD_START * self.ahead

    def put(self, queue: str, due: int, ahead: int = 0) -> None:
        """Let it wait there; an attempt that took it and is not written down is forgotten."""
        self.attempts = self.counted
        self.queue, self.due, self.ahead, self.begun = queue, due, ahead, False

    def take(self, token: str, until: int) -> None:
        self.lease, self.due, self.ahead, self.begun = Lease(token, until), until, 0, True

    def count(self, attempts: int) -> None:
        self.attempts, self.attempts_until, self.noted = attempts, None, False

    def leave(self) -> None:
        """Be over: nothing is left of it but what is set after this."""
        self.queue, self.due, self.ahead, self.begun = None, 0, 0, False
        self.payload = self.lease = self.wish = None
        self.count(0)


class Model:
    """All jobs of a server, and what was told to whom."""

    def __init__(self) -> None:
        self.now = 0
        self.jobs: defaultdict[str, Job] = defaultdict(Job)
        self.lifts: dict[tuple[str, str], tuple[int, int]] = {}
        """Queue and id -> when it is due, and for what it has a head start then, if it stands there still."""
        self.awake: set[str] = set()
        """Queues one of whose workers is to wake up."""
        self.perhaps_awake: set[str] = set()
        self.nudged: set[str] = set()
        self.pushed: defaultdict[str, list[tuple[str, bytes | None]]] = defaultdict(list)
        self.told: list[str] = []
        """What was said to all workers."""
        self.paused: dict[str, bytes] = {}
        """Queues of which nothing is claimed, and what is kept of that."""

    # What producers do

    def enqueue(
        self, queue: str, job_id: str, payload: bytes, *, due: int, expires: int = 0, priority: int = 0
    ) -> bool:
        """Add a job unless its id is taken: by one that is there, that runs, or whose result is kept."""
        job = self.jobs[job_id]
        if job.payload or job.lease or job.result:
            return False
        self._call_a_worker(queue, due, self._places(queue))
        self._place(job_id, queue, due, priority)
        job.payload = Kept(payload, self.now + expires if expires else None)
        job.count(0)
        job.noted = expires > 0
        job.awaited = job.wish = None
        return True

    def enqueue_fresh(self, queue: str, job_id: str, payload: bytes) -> None:
        """Add a job under an id that nobody ever used."""
        self.jobs[job_id].put(queue, self.now)
        self.jobs[job_id].payload = Kept(payload)
        self.awake.add(queue)

    def await_result(self, channel: str, job_id: str) -> bytes | bool:
        """Return the result; or True, it will be pushed; or False, there is no such job."""
        job = self.jobs[job_id]
        if job.result is None and job.is_known_of:
            if channel not in job.waiters:
                job.waiters.append(channel)
            return True
        job.waiters = []
        found = job.result or job.awaited
        return found.value if found else False

    def abort(self, queue: str, job_id: str, *, result: bytes, keep: int) -> str:
        """End a waiting job; have whoever runs it cancel it."""
        job = self.jobs[job_id]
        if job.runs:
            job.wish, job.meant = self.now, True
            self.told.append(f"abort {job.lease.token} {job_id}")
            return "running"
        if job.queue != queue:
            return "missing"
        lease = job.lease
        job.leave()
        self.lifts.pop((queue, job_id), None)
        job.lease = lease  # of a tick of before
        self._end(job_id, result, keep)
        if not self._places(queue):
            self.awake.discard(queue)
        return "cancelled"

    def reschedule(self, queue: str, job_id: str, due: int) -> tuple[str, int]:
        """Let a job that waits come due at another minute; the attempts it had stay counted."""
        job = self.jobs[job_id]
        if job.runs:
            return "running", 0
        if job.queue != queue:
            return "missing", 0
        until = job.payload.until if job.payload else self.now
        if job.payload is None or (until is not None and due >= until):
            return "expires", until
        job.awaited = None
        attempts, lost = job.attempts, job.begun
        noted = self.lifts.pop((queue, job_id), (None, 0))
        self._place(job_id, queue, due, noted[1] if noted[0] == job.due and not lost else job.ahead)
        if lost:
            job.count(attempts)
        self._call_a_worker(queue, due, {other: at for other, at in self._places(queue).items() if other != job_id})
        return "moved", due

    def pause(self, queue: str, kept: bytes) -> str:
        if queue in self.paused:
            return "same"
        self.paused[queue] = kept
        self.told.append("pauses")
        return "paused"

    def resume(self, queue: str) -> bool:
        if self.paused.pop(queue, None) is None:
            return False
        if self._places(queue):
            self.awake.add(queue)
        self.told.append("pauses")
        return True

    def fetch(self, job_id: str) -> bytes | None:
        """Return the result of an ended job."""
        found = self.jobs[job_id].result or self.jobs[job_id].awaited
        return found.value if found else None

    # What workers do

    def claim(self, queues: Sequence[str], *, most: int, lease: int, worker: str, number: int) -> list[Taken]:
        """Take due jobs, those due first first, and of one minute those that never began, by their ids."""
        asked = any(job.wish is not None for job in self.jobs.values())
        taken: list[Taken] = []
        for index, queue in enumerate(queues):
            if queue not in self.paused:
                self._lift(queue)
            due = sorted(
                (job_id for job_id, place in self._places(queue).items() if place <= self.now),
                key=lambda job_id: (
                    self.jobs[job_id].place, self.jobs[job_id].begun, self.jobs[job_id].ahead, raw_id(job_id)
                ),
            )  # fmt: skip
            if queue in self.paused:
                due = []
            while due and len(taken) < most:
                job_id = due.pop(0)
                job = self.jobs[job_id]
                if job.lease is None:
                    taken.append(self._begin(job_id, index, worker, number, self.now + lease))
                elif job.lease.token == DONE:  # a tick that ran already
                    job.queue, job.payload = None, None
            if due:
                self.awake.add(queue)
            if not self._places(queue):
                self.awake.discard(queue)
        if asked:
            self._forget_old_wishes()
        return taken

    def next_due(self, queues: Sequence[str]) -> int | None:
        """Return when a worker should look again."""
        served = [queue for queue in queues if queue not in self.paused]
        places = (job.place for job in self.jobs.values() if job.queue in served)
        return min((place for place in places if place > self.now), default=None)

    def waiting(self, queues: Sequence[str]) -> int:
        return sum(job.queue in queues and job.queue not in self.paused for job in self.jobs.values())

    def wake_up(self, queues: Sequence[str], worker: str) -> None:
        """Take the first of what a worker waits for."""
        for queue in queues:
            if queue in self.awake:
                self.awake.discard(queue)
                return
        self.nudged.discard(worker)

    def complete(self, outcomes: Sequence[Outcome], *, again: bool = False) -> tuple[set[int], set[int]]:
        """Record outcomes; return which were refused as lost, and which as recorded before."""
        lost, repeated = set(), set()
        before = {outcome.queue: self._places(outcome.queue) for outcome in outcomes}
        for index, outcome in enumerate(outcomes):
            verdict = self._verdict(outcome, again)
            if verdict == "lost":
                lost.add(index)
            elif verdict == "repeated":
                repeated.add(index)
            elif outcome.kind == "finish":
                job = self.jobs[outcome.job_id]
                job.leave()
                if outcome.done:
                    job.lease = Lease(DONE, self.now + outcome.done)
                self._end(outcome.job_id, outcome.result, outcome.keep)
            else:
                self._put_back(outcome, before[outcome.queue])
        return lost, repeated

    def renew(self, outcomes: Iterable[tuple[str, str, int]], until: int) -> tuple[list[str], list[str]]:
        """Extend the leases of these (id, token, attempt); return the ids that are lost, and those to abort."""
        lost, aborted = [], []
        for job_id, token, attempt in outcomes:
            job = self.jobs[job_id]
            if job.lease is None or job.lease.token != token:
                lost.append(job_id)
                continue
            job.take(token, until)
            job.attempts = attempt
            if job.wish is not None:
                aborted.append(job_id)
        return lost, aborted

    # What stock arq does

    def stock_enqueue(self, queue: str, job_id: str, payload: bytes, delay: int) -> None:
        """arq's producer looks for a job and a result, and not at leases."""
        job = self.jobs[job_id]
        if job.payload is None and job.result is None:
            job.put(queue, self.now + delay)
            job.payload = Kept(payload, self.now + delay + STOCK_PAYLOAD_KEPT)

    def stock_begin(self, job_id: str) -> None:
        """arq's worker leaves a job where it stands and counts its own attempt, not one that was lost."""
        job = self.jobs[job_id]
        job.lease = Lease(STOCK, self.now + STOCK_LEASE)
        job.count(job.attempts + 1)
        job.attempts_until = self.now + STOCK_COUNT_KEPT

    def stock_end(self, job_id: str, result: bytes) -> None:
        """arq's worker pushes nothing, and takes no waiter off the list."""
        self.jobs[job_id].leave()
        self.jobs[job_id].result = Kept(result, self.now + STOCK_RESULT_KEPT)

    def stock_retry(self, job_id: str, delay: int) -> None:
        """arq adds to the score, so that what it says of an attempt before stays said."""
        job = self.jobs[job_id]
        job.lease = None
        if delay:
            job.due = self.now + delay

    def stock_abort(self, job_id: str) -> None:
        """arq makes a job due at once that is due later, be it that it runs."""
        job = self.jobs[job_id]
        if job.payload is not None and job.queue is not None and job.place > self.now:
            job.put(job.queue, AT_ONCE)
        job.wish, job.meant = self.now, False

    # What time does

    def pass_time(self, minutes: int) -> None:
        self.now += minutes

        def gone(until: int | None) -> bool:
            return until is not None and until <= self.now

        for job in self.jobs.values():
            if job.lease and gone(job.lease.until):
                job.lease = None
            if gone(job.attempts_until):
                job.count(int(job.begun))
            job.payload = None if job.payload and gone(job.payload.until) else job.payload
            job.result = None if job.result and gone(job.result.until) else job.result
            job.awaited = None if job.awaited and gone(job.awaited.until) else job.awaited

    # What is seen of it

    def keyspace(self) -> dict[str, Any]:
        """Return every key that should be there; those of `perhaps_awake` may be besides."""
        space: dict[str, Any] = {keys.wake(queue): {"due": 0} for queue in self.awake}
        space |= {keys.nudge(worker): {"stop": 0} for worker in self.nudged}
        if self.paused:
            space[keys.PAUSED] = {f"queue:{queue}": kept for queue, kept in self.paused.items()}
        space |= self._shown_lifts()
        for job_id, job in self.jobs.items():
            if job.queue is not None:
                place = 1 if job.due == AT_ONCE else shown_time(job.place - self.now, begun=job.begun)
                space.setdefault(job.queue, {})[job_id] = place
            if job.wish is not None:
                space.setdefault(keys.ABORT, {})[job_id] = shown_time(job.wish - self.now)
            if job.waiters:
                space.setdefault(keys.WAITERS, {})[job_id] = " ".join(job.waiters).encode()
            if job.counted > 0 or job.noted:
                space[keys.retry(job_id)] = self._shown(Kept(b"%d" % job.counted, job.attempts_until))
            if job.lease is not None:
                space[keys.lease(job_id)] = self._shown(Kept(job.lease.token.encode(), job.lease.until))
            for key, kept in (
                (keys.job(job_id), job.payload),
                (keys.result(job_id), job.result),
                (keys.awaited(job_id), job.awaited),
            ):
                if kept is not None:
                    space[key] = self._shown(kept)
        return space

    def _shown_lifts(self) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for (queue, job_id), (due, _) in self.lifts.items():
            shown.setdefault(keys.lift(queue), {})[job_id] = shown_time(due - self.now)
        return shown

    def _shown(self, kept: Kept) -> Any:
        return kept.value if kept.until is None else (kept.value, f"{60 * (kept.until - self.now)}s")

    def _places(self, queue: str) -> dict[str, int]:
        """Return the jobs of a queue, and where each stands."""
        return {job_id: job.place for job_id, job in self.jobs.items() if job.queue == queue}

    def _place(self, job_id: str, queue: str, due: int, priority: int) -> None:
        """Put a job that has its head start now, or once it is due."""
        self.jobs[job_id].put(queue, due, priority if due <= self.now else 0)
        if priority and due > self.now:
            self.lifts[queue, job_id] = (due, priority)

    def _lift(self, queue: str) -> None:
        """Give those their head start that are due, if they stand where they were put."""
        for (where, job_id), (due, priority) in list(self.lifts.items()):
            if where == queue and due <= self.now:
                del self.lifts[where, job_id]
                job = self.jobs[job_id]
                if job.queue == queue and job.due == due and not job.begun and not job.ahead:
                    job.ahead = priority

    def _call_a_worker(self, queue: str, due: int, others: dict[str, int]) -> None:
        """Wake one for a job that is due, or due before all others: it sleeps for too long else.

        Of two jobs that are due in the same minute one is a few milliseconds earlier, and a marker too many costs one
        look at the queue. So there the server may do either.
        """
        if due <= self.now or all(other > due for other in others.values()):
            self.awake.add(queue)
        elif all(other >= due for other in others.values()):
            self.perhaps_awake.add(queue)

    def _begin(self, job_id: str, queue: int, worker: str, number: int, until: int) -> Taken:
        job = self.jobs[job_id]
        due, ahead, attempt = job.due, job.ahead, job.attempts + 1
        if job.begun or attempt == 1:
            job.count(attempt)  # the server writes the attempt that was lost, or has nothing to write
        job.attempts = attempt
        token = f"{worker}:{attempt}:{number}"
        job.take(token, until)
        payload = job.payload.value if job.payload else None
        return Taken(job_id, payload, attempt, due, job.wish is not None, queue, token, ahead)

    def _verdict(self, outcome: Outcome, again: bool) -> Literal["recorded", "lost", "repeated"]:
        """Judge by the lease; and where outcomes are sent again, by what their first sending left behind."""
        job = self.jobs[outcome.job_id]
        if job.lease is not None and job.lease.token == outcome.token:
            return "recorded"
        if not again:
            return "lost"
        finish = outcome.kind == "finish"
        if finish and job.result is not None and job.result.value == outcome.result:
            return "repeated"
        if job.runs:
            return "lost"
        if job.queue != outcome.queue:
            return "repeated" if finish and outcome.keep == 0 and job.payload is None else "lost"
        if job.begun:  # a lease that ran out: this attempt's, if the next would be the next
            return "recorded" if job.attempts == outcome.attempt else "lost"
        if outcome.kind == "release":
            stands = job.attempts == outcome.attempt - 1 and (job.due, job.ahead) == (outcome.when, outcome.ahead)
        else:
            stands = not finish and job.attempts == outcome.attempt
        return "repeated" if stands else "lost"

    def _put_back(self, outcome: Outcome, others: dict[str, int]) -> None:
        job = self.jobs[outcome.job_id]
        due = self.now + outcome.when if outcome.kind == "retry" else outcome.when
        if job.wish is not None and job.meant:
            due = min(due, self.now)
        self._call_a_worker(outcome.queue, due, others)
        job.lease = None
        job.put(outcome.queue, due, outcome.ahead)
        if outcome.priority:
            self.lifts[outcome.queue, outcome.job_id] = (due, outcome.priority)
        job.count(outcome.attempt - (outcome.kind == "release"))

    def _end(self, job_id: str, result: bytes, keep: int) -> None:
        """Keep the result, and push it to who waits."""
        job = self.jobs[job_id]
        if keep:
            job.result = Kept(result, None if keep < 0 else self.now + keep)
        elif job.waiters:
            job.awaited = Kept(result, self.now + FETCHED_FOR)
        for channel in job.waiters:
            self.pushed[channel].append((job_id, result if 0 < len(result) <= LARGEST_PUSH else None))
        job.waiters = []

    def _forget_old_wishes(self) -> None:
        for job in self.jobs.values():
            if job.wish is not None and job.wish <= self.now - OLD_WISH:
                job.wish = self.now if job.payload or job.lease else None


def shown_time(minutes: int, *, begun: bool = False) -> str:
    """Return a score in the notation of tests/support/keyspace.py."""
    since = "lease" if begun else "now"
    return f"{since}{60 * minutes:+}s" if minutes else since


def raw_id(job_id: str) -> bytes:
    """Return an id as the server has it."""
    return job_id.encode(errors="surrogateescape")
