"""A state machine drives the store on a real server, in any order, against a model and against the promises.

After each step the whole keyspace is the model's (store_model.py), the store's answers and what it pushed were the
model's too, and what is promised of jobs holds (store_promises.py). Time passes by the minute and at once
(store_world.py). A failure is shown as the shortest list of steps that leads to it.

    BARQUE_TEST_MACHINE_RUNS=5000 make test ARGS="tests/chaos/test_store_machine.py --timeout 0"     a long search
"""

import asyncio
import os
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from common.redis import keys
from common.redis.connection import connect
from common.redis.control import Abort, ControlStore
from common.redis.push import frames
from common.redis.scores import ahead
from common.redis.store import Claim, Enqueue, Finish, FreshJobs, HeldLease, PutBack, Rank, Store
from common.settings import Settings
from tests.chaos.store_model import STOCK, Model, Outcome, Taken
from tests.chaos.store_promises import Promises
from tests.chaos.store_world import MINUTE, Heard, World
from tests.support.keyspace import Keyspace

RUNS = int(os.environ.get("BARQUE_TEST_MACHINE_RUNS", "70"))
STEPS = 50

QUEUES = ("queue:a", "queue:b")
HOME = {"a1": "queue:a", "a \udcff": "queue:a", "b1": "queue:b"}
"""Ids that are used again and again. Each has one queue: an id whose payload expired there is not used in another."""
IDS = sorted(HOME)
CHANNELS = ("barque:results:one", "barque:results:two")

some_id = st.sampled_from(IDS)
some_worker = st.sampled_from(("v", "w"))
some_queues = st.sampled_from((QUEUES, QUEUES[::-1], QUEUES[:1], QUEUES[1:]))
some_lease = st.sampled_from((1, 3))
some_room = st.sampled_from((1, 2, 3, 50))
MEANWHILE = (
    (),
    ("a minute",),
    ("claimed",),
    ("a minute", "claimed"),
    ("a minute", "claimed", "a minute"),
    ("a minute", "ended"),
    ("ended",),
    (("abort",),),
    (("abort", "enqueue"),),
)
"""What may happen between the two sendings of an outcome: time, another worker, a producer."""

some_looks = st.lists(st.sampled_from(("await", "abort", "enqueue")), max_size=2)
some_priority = st.sampled_from((0, 0, 0, 1, 2, 9))
some_keep = st.sampled_from((0, 0, 2, -1))


@dataclass
class Worker:
    """What one worker knows; all of it is gone when it crashes.

    Attributes:
        held: attempts it has, or had and was not told that they are lost, each with the name of its queue.
        unheard: outcomes it sent and heard nothing of.
    """

    name: str
    claims: int = 0
    held: list[tuple[Taken, str]] = field(default_factory=list)
    unheard: list[Outcome] = field(default_factory=list)


@dataclass
class Bench:
    """What all runs share: one loop, one client, who listens."""

    runner: asyncio.Runner
    client: object
    world: World
    results: dict[str, Heard]
    control: Heard


class StoreMachine(RuleBasedStateMachine):
    """Producers, workers and stock arq, one step after another."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench, self.world, self.redis = bench, bench.world, bench.client
        self.store, self.control = Store(bench.client), ControlStore(bench.client)
        self.model = Model()
        self.promises = Promises()
        self.workers = {name: Worker(name) for name in ("v", "w")}
        self.made = 0
        self.sound = False

    def act(self, step):
        """Do one step; it counts as sound once the keyspace was compared."""
        self.sound = False
        return self.bench.runner.run(step)

    def number(self) -> int:
        self.made += 1
        return self.made

    @initialize()
    def an_empty_server(self):
        async def begin():
            await self.redis.flushall()
            self.world.now = 0
            await self.world.settle()
            for heard in (*self.bench.results.values(), self.bench.control):
                heard.drain()

        self.act(begin())

    # Producers

    @rule(
        queue=st.sampled_from(QUEUES),
        jobs=st.lists(
            st.tuples(
                some_id,
                st.sampled_from(("now", "delay", "delay", "at")),
                st.sampled_from((1, 2, 5)),
                st.sampled_from((0, 0, 1, 4)),
            ),
            min_size=1,
            max_size=3,
        ),
        fresh=st.sampled_from((0, 0, 0, 1)),
        priority=some_priority,
    )
    def enqueue(self, queue, jobs, fresh, priority):
        self._enqueue(queue, [job for job in jobs if HOME[job[0]] == queue], fresh, priority)

    def _enqueue(self, queue, jobs, fresh, priority=0):
        wanted, told = [], []
        for job_id, how, minutes, expires in jobs:
            at = self.model.now - 2 + minutes if how == "at" else 0
            due = at if how == "at" else self.model.now + (minutes if how == "delay" else 0)
            wanted.append((job_id, due, how, expires))
        new = [f"fresh {self.number()}" for _ in range(fresh)]
        for job_id in new:
            self.model.enqueue_fresh(queue, job_id, b"fresh")
        calls = []
        for job_id, due, how, expires in wanted:
            payload = b"payload %d" % self.number()
            told.append(self.model.enqueue(queue, job_id, payload, due=due, expires=expires, priority=priority))
            at, delay = (self.world.ms(due), 0) if how == "at" else (0, (due - self.model.now) * MINUTE)
            rank = Rank(priority) if priority else None
            calls.append(Enqueue(queue, job_id, payload, False, delay, at, expires * MINUTE, rank))
        calls += [Enqueue(queue, job_id, b"fresh") for job_id in new]
        assert self.act(self.store.enqueue(calls)) == told + [True] * len(new)
        for job in (job for job, new in zip(calls, told + [True] * len(new), strict=True) if new):
            self.promises.acknowledged(job.job_id)

    @precondition(lambda self: len(self.model.keyspace().get("queue:a", ())) < 3)
    @rule(queue=st.sampled_from(QUEUES), count=st.integers(1, 2))
    def enqueue_fresh(self, queue, count):
        new = [f"fresh {self.number()}" for _ in range(count)]
        assert self.act(self.store.enqueue_fresh(FreshJobs(queue, new, [b"fresh"] * count))) == []
        for job_id in new:
            self.model.enqueue_fresh(queue, job_id, b"fresh")
            self.promises.acknowledged(job_id)

    @rule(channel=st.sampled_from(CHANNELS), data=st.data())
    def await_results(self, channel, data):
        self._await(channel, data.draw(st.lists(self._any_id(), min_size=1, max_size=3)))

    def _await(self, channel, asked):
        answers = self.act(self.store.await_results(channel, asked))
        assert answers == [self.model.await_result(channel, job_id) for job_id in asked]
        for job_id, answer in zip(asked, answers, strict=True):
            assert answer is not True or self.promises.lives[job_id].open, f"{job_id} has ended: nothing will be pushed"

    @rule(data=st.data(), keep=st.sampled_from((0, 2)))
    def abort(self, data, keep):
        self._abort(data.draw(self._any_id()), keep)

    def _abort(self, job_id, keep):
        queue = self.model.jobs[job_id].queue or QUEUES[0]
        result = b"aborted %d" % self.number()
        (answer,) = self.act(self.control.abort(queue, [Abort(job_id, result)], keep_ms=keep * MINUTE))
        assert answer == self.model.abort(queue, job_id, result=result, keep=keep)
        if answer == "cancelled":
            self.promises.ended(job_id, result if keep else None)

    @rule(data=st.data(), how=st.sampled_from(("delay", "at")), minutes=st.sampled_from((0, 1, 5)))
    def reschedule(self, data, how, minutes):
        job_id = data.draw(self._any_id())
        queue = self.model.jobs[job_id].queue or QUEUES[0]
        due = self.model.now - 2 + minutes if how == "at" else self.model.now + minutes
        when = {"at_ms": self.world.ms(due)} if how == "at" else {"delay_ms": minutes * MINUTE}
        word, at = self.act(self.control.reschedule(queue, job_id, **when))
        assert (word, self.world.minute(at) if at else 0) == self.model.reschedule(queue, job_id, due)

    @rule(queue=st.sampled_from(QUEUES))
    def pause(self, queue):
        word, stored = self.act(self.control.pause("queue", queue, b"said"))
        assert word == self.model.pause(queue, f"{stored.since_ms} said".encode())

    @rule(queue=st.sampled_from(QUEUES))
    def resume(self, queue):
        assert self.act(self.control.resume("queue", queue)) == self.model.resume(queue)

    @rule()
    def read(self):
        ids = [*IDS, *self.model.jobs]

        async def read():
            results, aborting = await self.store.results(ids), await self.store.aborting(ids)
            return results, aborting, [await self.store.payload(job_id) for job_id in ids[:3]]

        results, aborting, payloads = self.act(read())
        jobs = [self.model.jobs[job_id] for job_id in ids]
        assert results == [self.model.fetch(job_id) for job_id in ids]
        assert set(aborting) == {job_id for job_id, job in zip(ids, jobs, strict=True) if job.wish is not None}
        assert payloads == [job.payload.value if job.payload else None for job in jobs[:3]]

    # Workers

    @rule(name=some_worker, queues=some_queues, most=some_room, lease=some_lease)
    def claim(self, name, queues, most, lease):
        self._claimed(name, queues, most, lease, self.act(self._claim(name, queues, most, lease)))

    @rule(name=some_worker, queues=some_queues, most=some_room, lease=some_lease)
    def claim_when_woken(self, name, queues, most, lease):
        worker = self.workers[name]
        if worker.name not in self.model.nudged and self.model.awake.isdisjoint(queues):
            return  # it would wait in vain, for a tenth of a second
        claim = self.store.claim_when_woken(
            queues, 60, most=most, lease_ms=lease * MINUTE, worker=worker.name, number=worker.claims
        )
        self.model.wake_up(queues, worker.name)
        self._claimed(name, queues, most, lease, self.act(claim))

    @rule(name=some_worker, queues=some_queues, lease=some_lease)
    def claim_woken_by_an_enqueue(self, name, queues, lease):
        worker, job_id = self.workers[name], f"fresh {self.number()}"
        if worker.name in self.model.nudged or not self.model.awake.isdisjoint(queues):
            return  # it would not wait
        if any(job.queue in queues and job.begun and job.due == self.model.now for job in self.model.jobs.values()):
            return  # which of the two is due first, the model does not say within a step

        async def both():
            claim = self.store.claim_when_woken(
                queues, 60, most=2, lease_ms=lease * MINUTE, worker=worker.name, number=worker.claims
            )
            found, added = await asyncio.gather(claim, self.store.enqueue([Enqueue(queues[-1], job_id, b"woken")]))
            assert added == [True]
            return found

        found = self.act(both())
        self.model.enqueue_fresh(queues[-1], job_id, b"woken")
        self.promises.acknowledged(job_id)
        self.model.wake_up(queues, worker.name)
        self._claimed(name, queues, 2, lease, found)

    @rule(name=some_worker, queues=some_queues, data=st.data(), heard=st.booleans())
    def work(self, name, queues, data, heard):
        """Claim one job and end it, or try to."""
        self.claim(name, queues, 1, 1)
        self.the_server_is_as_the_model_says()
        if self.workers[name].held:
            self._end_some(self.workers[name], data, heard)

    @precondition(lambda self: any(worker.held for worker in self.workers.values()))
    @rule(data=st.data(), heard=st.booleans())
    def complete(self, data, heard):
        self._end_some(
            data.draw(st.sampled_from([worker for worker in self.workers.values() if worker.held])), data, heard
        )

    def _end_some(self, worker, data, heard):
        ended = data.draw(
            st.lists(st.sampled_from(worker.held), min_size=1, max_size=4, unique_by=lambda held: held[0].job_id)
        )
        outcomes = [self._outcome(taken, queue, data) for taken, queue in ended]
        worker.held = [held for held in worker.held if held not in ended]
        if heard:
            self._send(outcomes, again=False)
            return
        reached = data.draw(st.sampled_from((len(outcomes), 0, 1)))
        self._send(outcomes[:reached], again=False)
        worker.unheard += outcomes

    @precondition(lambda self: any(worker.unheard for worker in self.workers.values()))
    @rule(data=st.data(), heard=st.booleans())
    def complete_again(self, data, heard):
        worker = data.draw(st.sampled_from([worker for worker in self.workers.values() if worker.unheard]))
        outcomes = list({outcome.job_id: outcome for outcome in reversed(worker.unheard)}.values())
        self._send(outcomes, again=True)
        if heard:
            worker.unheard = [outcome for outcome in worker.unheard if outcome not in outcomes]

    @rule(
        name=some_worker,
        data=st.data(),
        first=st.sampled_from(("arrived", "arrived", "got lost", "got lost", "was never sent")),
        waited=st.booleans(),
        meanwhile=st.sampled_from(MEANWHILE),
    )
    def be_late(self, name, data, first, waited, meanwhile):
        """Send outcomes, once more where the reply was lost, when this has happened to their jobs."""
        ended = self._claim_some(name)
        outcomes = [self._outcome(*held, data) for held in ended]
        for outcome in outcomes:
            self._look(outcome.job_id, ["await"] * waited)
        self._send(outcomes if first == "arrived" else [], again=False)
        for what in meanwhile:
            self.the_server_is_as_the_model_says()
            if what == "a minute":
                self.pass_time(1)
            elif what == "claimed":
                self.claim("v" if name == "w" else "w", QUEUES, 50, 1)
            elif what == "ended":
                self._send(
                    [self._outcome(*held, data) for held in self._claim_some("v" if name == "w" else "w")], False
                )
            else:
                for outcome in outcomes:
                    self._look(outcome.job_id, what)
        self.the_server_is_as_the_model_says()
        self._send(outcomes, again=first != "was never sent")

    def _claim_some(self, name):
        """Have a worker take all there is; return some that it has, one at least."""
        for job_id, queue in HOME.items():
            self._enqueue(queue, [(job_id, "now", 0, 0)], 0)
            self.the_server_is_as_the_model_says()
        self.claim(name, QUEUES, 50, 1)
        self.the_server_is_as_the_model_says()
        worker = self.workers[name]
        some = list({taken.job_id: (taken, queue) for taken, queue in worker.held}.values())[-4:]
        worker.held = [held for held in worker.held if held not in some]
        return some

    @rule(job_id=some_id, name=some_worker, claimed=st.booleans(), before=some_looks, after=some_looks)
    def let_a_payload_expire(self, job_id, name, claimed, before, after):
        """Look at a job before and after, be it that it runs meanwhile."""
        self._enqueue(HOME[job_id], [(job_id, "now", 0, 1)], 0)
        self.the_server_is_as_the_model_says()
        if claimed:
            self.claim(name, QUEUES, 50, 3)
            self.the_server_is_as_the_model_says()
        self._look(job_id, before)
        self.pass_time(1)
        self.the_server_is_as_the_model_says()
        self._look(job_id, after)

    def _look(self, job_id, looks):
        for look in looks:
            if look == "abort":
                self._abort(job_id, 0)
            elif look == "await":
                self._await(CHANNELS[0], [job_id])
            else:
                queue = self.model.jobs[job_id].queue or HOME.get(job_id, QUEUES[0])
                self._enqueue(queue, [(job_id, "delay", 2, 0)], 0)
            self.the_server_is_as_the_model_says()

    @rule(
        name=some_worker,
        keep=some_keep,
        minutes=st.sampled_from((0, 1, 5)),
        delay=st.sampled_from((0, 0, 3)),
        waited=st.booleans(),
        looks=some_looks,
    )
    def enqueue_a_tick_twice(self, name, keep, minutes, delay, waited, looks):
        """Have stock arq enqueue an ended cron tick once more, and a worker look at it."""
        held = self._claim_some(name)
        if not held:
            return
        taken, queue = held.pop()
        self.workers[name].held += held
        if waited:
            self._look(taken.job_id, ["await"])
        done = Outcome(taken.job_id, queue, taken.token, taken.attempt, "finish", b"ticked", keep, 5)
        self._send([done], again=False)
        if self.model.jobs[taken.job_id].lease is not None and not self.model.jobs[taken.job_id].runs:
            self.the_server_is_as_the_model_says()
            self._stock_enqueue(queue, taken.job_id, delay)
        self.the_server_is_as_the_model_says()
        self._look(taken.job_id, looks)
        if minutes:
            self.pass_time(minutes)
            self.the_server_is_as_the_model_says()
        self.claim(name, QUEUES, 50, 1)

    @precondition(lambda self: any(worker.held for worker in self.workers.values()))
    @rule(name=some_worker, lease=some_lease)
    def renew(self, name, lease):
        worker, until = self.workers[name], self.model.now + lease
        leases = [HeldLease(QUEUES.index(queue), t.job_id, t.token, t.attempt) for t, queue in worker.held]
        renewal = self.act(self.store.renew(QUEUES, leases, lease_ms=lease * MINUTE))
        lost, aborted = self.model.renew([(h.job_id, h.token, h.attempt) for h in leases], until)
        assert [held.job_id for held in renewal.lost] == lost
        assert [held.job_id for held, _ in renewal.aborted] == aborted
        for held in leases:
            if held not in renewal.lost:
                self.promises.renewed(held.job_id, held.token, until, self.model.now)
        worker.held = [held for held, lease in zip(worker.held, leases, strict=True) if lease not in renewal.lost]

    @precondition(lambda self: any(worker.held for worker in self.workers.values()))
    @rule(name=some_worker)
    def crash(self, name):
        self.workers[name] = Worker(f"{name}{self.number()}")

    @rule(name=some_worker)
    def nudge(self, name):
        self.act(self.store.nudge(self.workers[name].name))
        self.model.nudged.add(self.workers[name].name)

    # Time, and the server

    @rule(minutes=st.sampled_from((1, 1, 1, 1, 2, 2, 5, 1500)))
    def pass_time(self, minutes):
        self.act(self.world.settle(minutes))
        self.model.pass_time(minutes)

    @rule()
    def the_server_forgets_scripts(self):
        self.act(self.redis.script_flush())

    # Stock arq, as its source does it

    @precondition(lambda self: self._free_for_stock())
    @rule(data=st.data(), delay=st.sampled_from((0, 0, 3)))
    def stock_enqueue(self, data, delay):
        job_id = data.draw(st.sampled_from(self._free_for_stock()))
        self._stock_enqueue(HOME[job_id], job_id, delay)

    def _stock_enqueue(self, queue, job_id, delay):
        job = self.model.jobs[job_id]
        if job.payload or job.result:
            return
        payload = b"stock %d" % self.number()

        async def enqueue():
            kept = (delay + 24 * 60) * MINUTE
            await self.redis.set(_key(keys.job(job_id)), payload, px=kept)
            await self.redis.zadd(queue, {_key(job_id): self.world.ms(self.model.now + delay)})

        self.act(enqueue())
        self.promises.acknowledged(job_id, foreign=True, optional=job.lease is not None)
        self.model.stock_enqueue(queue, job_id, payload, delay)

    @precondition(lambda self: self._free_jobs())
    @rule(data=st.data())
    def stock_begin(self, data):
        job_id = data.draw(st.sampled_from(self._free_jobs()))

        async def begin():
            await self.redis.psetex(_key(keys.lease(job_id)), 5 * MINUTE, b"1")
            await self.redis.incr(_key(keys.retry(job_id)))
            await self.redis.expire(_key(keys.retry(job_id)), 88_400)

        self.act(begin())
        self.model.stock_begin(job_id)
        self.promises.disturbed(job_id)

    @precondition(lambda self: self._stock_runs())
    @rule(data=st.data(), before=some_looks, after=some_looks)
    def stock_end(self, data, before, after):
        job_id = data.draw(st.sampled_from(self._stock_runs()))
        self._look(job_id, before)
        result = b"stock result %d" % self.number()

        async def end():
            await self.redis.set(_key(keys.result(job_id)), result, px=60 * MINUTE)
            await self.redis.zrem(keys.ABORT, _key(job_id))
            await self.redis.zrem(self.model.jobs[job_id].queue, _key(job_id))
            await self.redis.delete(*(_key(make(job_id)) for make in (keys.lease, keys.retry, keys.job)))

        self.act(end())
        self.model.stock_end(job_id, result)
        self.promises.ended(job_id, result)
        self.the_server_is_as_the_model_says()
        self._look(job_id, after)

    @precondition(lambda self: self._stock_runs())
    @rule(data=st.data(), delay=st.sampled_from((0, 3)))
    def stock_retry(self, data, delay):
        job_id = data.draw(st.sampled_from(self._stock_runs()))
        job = self.model.jobs[job_id]

        async def retry():
            if delay:
                more = self.world.ms(self.model.now + delay) - self.world.ms(job.due)
                await self.redis.zincrby(job.queue, more, _key(job_id))
            await self.redis.delete(_key(keys.lease(job_id)))

        self.act(retry())
        self.model.stock_retry(job_id, delay)

    @rule(data=st.data())
    def stock_abort(self, data):
        job_id = data.draw(self._any_id())
        job = self.model.jobs[job_id]

        async def abort():
            if job.payload and job.queue and job.place > self.model.now:
                await self.redis.zadd(job.queue, {_key(job_id): 1})
            await self.redis.zadd(keys.ABORT, {_key(job_id): self.world.ms(self.model.now)})

        self.act(abort())
        self.model.stock_abort(job_id)
        self.promises.disturbed(job_id)

    # What holds after each step

    @invariant()
    def the_server_is_as_the_model_says(self):
        self.act(self.world.settle())
        assert self.world.early == []
        self.promises.look(self.world.space, self.model.now)
        for queue in self.model.perhaps_awake:
            if keys.wake(queue) in self.world.space:
                self.model.awake.add(queue)
        self.model.perhaps_awake.clear()
        assert self.world.space == self.model.keyspace()
        for channel, heard in self.bench.results.items():
            pushed = [(frame.job_id, frame.content) for message in heard.drain() for frame in frames(message)]
            assert sorted(pushed, key=str) == sorted(self.model.pushed.pop(channel, []), key=str)
        told = [message.decode(errors="surrogateescape") for message in self.bench.control.drain()]
        assert told == self.model.told
        self.model.told.clear()
        self.sound = True

    def teardown(self):
        if self.sound:  # else this would hide what went wrong
            found = self.act(Keyspace(self.redis).dump())
            seen = {key: value for key, value in found.items() if not key.startswith(keys.ATTEMPTS)}
            assert seen == self.world.space, "the world shows another keyspace than there is"
            self._let_all_end()
        self.act(self.redis.flushall())

    def _let_all_end(self) -> None:
        """Without any more faults every job ends, and nothing stays but what is kept for ever."""
        self.pass_time(3000)
        self.the_server_is_as_the_model_says()
        for queue in list(self.model.paused):
            self.resume(queue)
        self.workers["w"] = worker = Worker("last")
        while True:
            self.claim("w", QUEUES, 50, 1)
            self.the_server_is_as_the_model_says()
            if not worker.held:
                break
            self._send([Outcome(t.job_id, queue, t.token, t.attempt, "finish") for t, queue in worker.held], False)
            self.the_server_is_as_the_model_says()
            worker.held = []
        assert self.promises.open_jobs() == []
        waited_for = [job_id for job_id, job in self.model.jobs.items() if job.waiters]
        self.act(self.store.await_results(CHANNELS[0], waited_for))  # stock arq takes nobody off the list
        for name in list(self.model.nudged):
            self.act(self.store.forget_worker(name))
        self.pass_time(3000)
        self.claim("w", QUEUES, 1, 1)  # wishes of jobs that are gone go with it
        self.act(self.world.settle())
        kept = {keys.result(job_id) for job_id, job in self.model.jobs.items() if job.result}
        assert set(self.world.space) == kept

    async def _claim(self, name, queues, most, lease) -> Claim:
        worker = self.workers[name]
        return await self.store.claim(
            queues, most=most, lease_ms=lease * MINUTE, worker=worker.name, number=worker.claims
        )

    def _claimed(self, name, queues, most, lease, found: Claim) -> None:
        worker = self.workers[name]
        wanted = self.model.claim(queues, most=most, lease=lease, worker=worker.name, number=worker.claims)
        worker.claims += 1
        taken = [
            Taken(
                j.job_id, j.payload, j.attempt, self.world.minute(j.due_ms), j.aborted > 0, j.queue, j.token, j.priority
            )
            for j in found.jobs
        ]
        for job in taken:
            self.promises.claimed(job, self.model.now + lease, self.model.now)
        assert taken == wanted
        assert found.waiting == self.model.waiting(queues)
        next_due = None if found.next_due_ms is None else self.world.minute(found.next_due_ms)
        assert next_due == (self.model.next_due(queues) if len(taken) < most else None)
        worker.held += [(job, queues[job.queue]) for job in taken]

    def _outcome(self, taken: Taken, queue: str, data) -> Outcome:
        kind = data.draw(st.sampled_from(("finish", "finish", "retry", "return", "release")))
        common = (taken.job_id, queue, taken.token, taken.attempt, kind)
        if kind == "finish":
            made = b"result %d" % self.number()
            result = data.draw(st.sampled_from((made, made, made.ljust(65_536), made.ljust(65_537), b"")))
            keep = data.draw(some_keep)
            return Outcome(*common, result, keep, data.draw(st.sampled_from((0, 0, 5))))
        if kind == "retry":
            return Outcome(*common, when=data.draw(st.sampled_from((0, 2, 5))), priority=data.draw(some_priority))
        return Outcome(*common, when=taken.due, ahead=taken.ahead)

    def _send(self, outcomes, again) -> None:
        records = [self._record(outcome) for outcome in outcomes]
        refusals = self.act(self.store.complete(QUEUES, records, again=again))
        for index, outcome in enumerate(outcomes):
            if index not in refusals.lost and index not in refusals.repeated:
                self.promises.recorded(outcome, self.model.now, again=again)
        assert (set(refusals.lost), set(refusals.repeated)) == self.model.complete(outcomes, again=again)

    def _record(self, outcome: Outcome) -> Finish | PutBack:
        held = HeldLease(QUEUES.index(outcome.queue), outcome.job_id, outcome.token, outcome.attempt)
        if outcome.kind == "finish":
            keep = outcome.keep * MINUTE if outcome.keep > 0 else outcome.keep
            return Finish(held, outcome.result, keep, outcome.done * MINUTE)
        if outcome.kind == "retry":
            return PutBack(held, "retry", outcome.when * MINUTE, outcome.priority)
        return PutBack(held, outcome.kind, ahead(self.world.ms(outcome.when), outcome.ahead))

    def _any_id(self):
        return some_id | st.sampled_from(sorted(self.model.jobs) or IDS)

    def _free_for_stock(self) -> list[str]:
        """Return ids that arq's producer may use, ended ticks first; a job that runs it would disturb."""
        free = [
            i for i in IDS if not (self.model.jobs[i].runs or self.model.jobs[i].payload or self.model.jobs[i].result)
        ]
        return [i for i in free if self.model.jobs[i].lease] or free

    def _free_jobs(self) -> list[str]:
        now = self.model.now
        return sorted(i for i, job in self.model.jobs.items() if job.queue and job.place <= now and not job.lease)

    def _stock_runs(self) -> list[str]:
        return sorted(i for i, job in self.model.jobs.items() if job.lease and job.lease.token == STOCK)


def _key(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


@pytest.fixture
def bench(redis_url):
    with asyncio.Runner() as runner:
        client = connect(Settings(redis_url=redis_url), name="machine")
        results = {channel: Heard(channel) for channel in CHANNELS}
        control = Heard(keys.CONTROL_CHANNEL)
        heard = [*results.values(), control]

        async def begin():
            listening = [asyncio.create_task(one.listen(client)) for one in heard]
            async with asyncio.timeout(30):
                for one in heard:
                    await one.ready.wait()
            return listening

        async def end(listening):
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
            await client.aclose()

        listening = runner.run(begin())
        try:
            yield Bench(runner, client, World(client, heard), results, control)
        finally:
            runner.run(end(listening))


@pytest.mark.timeout(300)
def test_the_store_is_what_the_model_says(bench):
    run_state_machine_as_test(
        lambda: StoreMachine(bench),
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
            print_blob=True,
        ),
    )
