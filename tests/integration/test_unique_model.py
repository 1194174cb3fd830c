"""Unique enqueues against a model of what docs/unique_jobs.md says, in any order of steps.

Time passes by minutes, as tests/support/passing_time.py lets it, and each step takes a moment besides: the model's
clock is a pair of minutes and steps, so that what the real steps take decides nothing.
"""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.redis import keys
from common.redis.control import Abort, ControlStore
from common.redis.store import Enqueue, Finish, HeldLease, PutBack, Store
from common.redis.unique import UniqueAnswer, UniqueEnqueue, UniqueStore
from common.uniqueness import Debounce, Throttle, Unique
from tests.support.passing_time import pass_time

MINUTE = 60_000
LEASE = 4
LEASE_MS = LEASE * MINUTE - 1000
"""A little less: a running job's score lies a moment past its lease."""

Moment = tuple[int, int]

DECLARATIONS = {
    "done": Unique(),
    "started": Unique(until="started"),
    "done for 2 min": Unique(for_=120),
    "for 2 min": Unique(until=None, for_=120),
    "replace": Unique(on_conflict="replace"),
    "replace until started": Unique(until="started", on_conflict="replace"),
    "reject": Unique(on_conflict="reject"),
    "throttle": Throttle(180),
    "throttle, rejecting": Throttle(180, on_conflict="reject"),
    "throttle, trailing": Throttle(120, trailing=True),
    "debounce": Debounce(120, at_most=300),
}
LASTING = {"done", "started", "done for 2 min", "replace", "replace until started", "reject", "debounce"}


@dataclass
class Job:
    """A job of the model; `lease` is how the store knows its attempt, while it runs."""

    payload: bytes
    due: Moment
    begun: bool = False
    lease: HeldLease | None = None
    lease_ends: Moment = (0, 0)


@dataclass
class Record:
    """What the model knows of a key."""

    job_id: str
    free: Moment
    first: Moment
    trailing: bool
    lasting: bool


@dataclass
class Model:
    """All there is, by what the page says."""

    now: Moment = (0, 0)
    jobs: dict[str, Job] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)

    def tick(self, minutes: int = 0) -> None:
        self.now = (self.now[0] + minutes, self.now[1] + 1)
        for job in self.jobs.values():
            if job.lease is not None and job.lease_ends <= self.now:
                job.lease, job.due = None, job.lease_ends
        gone = [key for key, record in self.records.items() if not record.lasting and record.free <= self.now]
        for key in gone:
            del self.records[key]

    def later(self, minutes: int, start: Moment | None = None) -> Moment:
        start = start or self.now
        return start[0] + minutes, start[1]

    def is_waiting(self, job_id: str) -> bool:
        return job_id in self.jobs and not self.jobs[job_id].begun

    def enqueue(self, kind: str, key: str, job_id: str, payload: bytes, delay: int) -> tuple[str, str]:
        """Return the word and the job that the enqueue is to be answered with."""
        declared, record = DECLARATIONS[kind], self.records.get(key)
        if isinstance(declared, Debounce):
            delay = 2
        due = self.later(delay)
        if record is not None:
            # Whoever heeds the job sees to it that the record lives as long as it does.
            record.lasting |= record.job_id in self.jobs and kind in LASTING
            in_window = self.now < record.free
            answer = None
            if kind == "throttle, trailing":
                if record.trailing and self.is_waiting(record.job_id):
                    self.jobs[record.job_id].payload = payload
                    answer = ("replaced", record.job_id)
                elif in_window:
                    due = max(due, record.free)
                    self.add(kind, key, job_id, payload, due, free=self.later(2, record.free), trailing=True)
                    answer = ("added", job_id)
            elif in_window or self.keeps_away(declared, record):
                answer = self.conflict(declared, record, payload, due, delay)
            if answer is not None:
                return answer
        window = {"done for 2 min": 2, "for 2 min": 2, "throttle": 3, "throttle, rejecting": 3, "throttle, trailing": 2}
        self.add(kind, key, job_id, payload, due, free=self.later(window.get(kind, 0)), trailing=False)
        return "added", job_id

    def keeps_away(self, declared, record: Record) -> bool:
        if isinstance(declared, Debounce) or (isinstance(declared, Unique) and declared.until == "started"):
            return self.is_waiting(record.job_id)
        return isinstance(declared, Unique) and declared.until == "done" and record.job_id in self.jobs

    def conflict(self, declared, record: Record, payload: bytes, due: Moment, delay: int) -> tuple[str, str]:
        replaces = isinstance(declared, Debounce) or declared.on_conflict == "replace"
        if replaces and self.is_waiting(record.job_id):
            job = self.jobs[record.job_id]
            job.payload = payload
            if isinstance(declared, Debounce):
                job.due = min(due, self.later(5, record.first))
            elif delay or job.due > self.now:
                job.due = due
            return "replaced", record.job_id
        rejects = not isinstance(declared, Debounce) and declared.on_conflict == "reject"
        return "rejected" if rejects else "there", record.job_id

    def add(self, kind, key, job_id, payload, due, *, free: Moment, trailing: bool) -> None:
        self.jobs[job_id] = Job(payload, due)
        self.records[key] = Record(job_id, free, self.now, trailing, kind in LASTING or trailing)


ENQUEUE = st.tuples(
    st.just("enqueue"), st.sampled_from(sorted(DECLARATIONS)), st.sampled_from("kl"), st.sampled_from([0, 0, 1, 3])
)
ONE_KIND = st.sampled_from(sorted(DECLARATIONS)).flatmap(
    lambda kind: st.lists(
        st.tuples(st.just("enqueue"), st.just(kind), st.just("k"), st.just(0)) | OTHER, min_size=3, max_size=40
    )
)
OTHER = (
    st.tuples(st.just("pass"), st.integers(1, 5))
    | st.tuples(st.just("claim"))
    | st.tuples(st.sampled_from(["finish", "retry", "release", "abort"]), st.integers(0, 9))
)


class World:
    """Model and server, side by side."""

    def __init__(self, redis) -> None:
        self.redis, self.store, self.unique = redis, Store(redis), UniqueStore(redis)
        self.control = ControlStore(redis)
        self.model, self.made, self.claims = Model(), 0, 0

    async def step(self, name: str, *arguments) -> None:
        self.model.tick()
        await getattr(self, f"do_{name}")(*arguments)

    async def do_enqueue(self, kind: str, key: str, delay: int) -> None:
        self.made += 1
        job_id, payload = f"j{self.made}", f"payload {self.made}".encode()
        delay = 0 if kind == "debounce" else delay
        item = Enqueue("q", job_id, payload, False, delay_ms=delay * MINUTE)
        expected = self.model.enqueue(kind, key, job_id, payload, delay)
        answers = await self.unique.enqueue([UniqueEnqueue(item, key, DECLARATIONS[kind].rule, minted=True)])
        assert answers == [UniqueAnswer(*expected, "q")]

    async def do_pass(self, minutes: int) -> None:
        await pass_time(self.redis, minutes * 60)
        self.model.tick(minutes)

    async def do_claim(self) -> None:
        self.claims += 1
        claim = await self.store.claim(["q"], most=100, lease_ms=LEASE_MS, worker="w", number=self.claims)
        due = {job_id for job_id, job in self.model.jobs.items() if job.lease is None and job.due <= self.model.now}
        assert {job.job_id for job in claim.jobs} == due
        for claimed in claim.jobs:
            job = self.model.jobs[claimed.job_id]
            assert claimed.payload == job.payload
            job.begun, job.lease_ends = True, self.model.later(LEASE)
            job.lease = HeldLease(0, claimed.job_id, claimed.token, claimed.attempt)

    async def do_finish(self, which: int) -> None:
        if (job_id := self.pick(which, running=True)) is not None:
            await self.complete(Finish(self.model.jobs.pop(job_id).lease, b"result", 0))

    async def do_retry(self, which: int) -> None:
        if (job_id := self.pick(which, running=True)) is not None:
            job = self.model.jobs[job_id]
            await self.complete(PutBack(job.lease, "retry", 2 * MINUTE))
            job.lease, job.due = None, self.model.later(2)

    async def do_release(self, which: int) -> None:
        if (job_id := self.pick(which, running=True)) is not None:
            job = self.model.jobs[job_id]
            await self.complete(PutBack(job.lease, "release", 1))
            job.begun, job.lease, job.due = job.lease.attempt > 1, None, (0, 0)

    async def do_abort(self, which: int) -> None:
        if (job_id := self.pick(which, running=False)) is not None:
            assert await self.control.abort("q", [Abort(job_id, b"")], keep_ms=0) == ["cancelled"]
            del self.model.jobs[job_id]

    async def complete(self, outcome) -> None:
        assert await self.store.complete(["q"], [outcome]) == ([], [])

    def pick(self, which: int, *, running: bool) -> str | None:
        found = [job_id for job_id, job in self.model.jobs.items() if (job.lease is not None) is running]
        return found[which % len(found)] if found else None

    async def compare(self) -> None:
        """Hold what is stored against the model, and have every record go by itself."""
        seconds, _ = await self.redis.time()
        scores = {member.decode(): score for member, score in await self.redis.zrange("q", 0, -1, withscores=True)}
        assert scores.keys() == self.model.jobs.keys()
        for job_id, job in self.model.jobs.items():
            assert await self.redis.get(keys.job(job_id)) == job.payload
            if job.lease is None and job.due != (0, 0):
                assert abs(scores[job_id] / 1000 - seconds - (job.due[0] - self.model.now[0]) * 60) < 30
        for key in await self.redis.keys("barque:unique*"):
            assert await self.redis.pttl(key) > 0
        for key, record in self.model.records.items():
            stored = await self.redis.hget(keys.unique(key), "job")
            gone = record.job_id not in self.model.jobs and record.free <= self.model.now
            assert stored == record.job_id.encode() or (stored is None and gone), "what has gone may be swept"


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(ENQUEUE | OTHER, max_size=40) | ONE_KIND)
async def test_any_order_of_steps_is_as_the_model_says(steps, redis, keyspace):
    await keyspace.clear()
    world = World(redis)
    for step in steps:
        await world.step(*step)
    await world.compare()
