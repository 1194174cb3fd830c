"""Turn calls into jobs, as one producer's settings say.

Owns what is looked up once for all jobs of a producer, and the short way for the many that ask for nothing special.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from common.codec import Extras, Form, encode_job, encode_plain_job
from common.errors import ConfigurationError, PayloadTooLarge
from common.fairness import lane_of
from common.jobs import new_job_id, new_job_ids
from common.priorities import read_priority
from common.redis.store import Enqueue, FreshJobs, Rank
from common.redis.unique import Signed, UniqueEnqueue
from common.settings import Settings
from common.signing import Keyring
from common.tasks import Call
from common.uniqueness import Uniqueness, digest_of, key_of
from producer.options import NO_OPTIONS, EnqueueOptions, check_name, not_one_call, seconds

__all__ = ["Binder", "UniqueBound"]

_CLOCKS_APART = 60.0
"""Seconds by which a producer's clock may be behind before a signed job that expires is refused too early."""

_QUEUES_KNOWN = 1000
"""Names of queues that are remembered to be good ones."""


class UniqueBound(NamedTuple):
    """A job to add under its unique key, and what it was made of.

    Attributes:
        unsigned: its payload, to be signed for another job; None where that is not done.
    """

    item: UniqueEnqueue
    call: Call[Any]
    unsigned: bytes | None = None


class Binder:
    """Makes jobs of calls.

    Args:
        signing: what signs each payload; None where there are no keys.
    """

    def __init__(self, settings: Settings, signing: Keyring | None = None) -> None:
        self._queue = settings.queues[0]
        self._most_bytes = settings.max_payload_bytes
        self._form: Form = "pickle" if settings.payload_format == "pickle" else "msgpack"
        self._signing = signing
        self._checked: set[str] = set()

    def bind(self, call: Call[Any], options: EnqueueOptions = NO_OPTIONS, job_id: str | None = None) -> Enqueue:
        """Return the call as a job to add, signed where there are keys.

        Raises:
            NotSerializable: an argument has no form on the wire.
            PayloadTooLarge: the payload is over `BARQUE_MAX_PAYLOAD_BYTES`.
            ConfigurationError: the job id or queue name cannot be one.
        """
        if not isinstance(call, Call):
            raise not_one_call(call)
        queue = self._queue_of(call, options)
        own_id = new_job_id() if job_id is None else check_name("job_id", job_id)
        task = call.task
        rank = None if options is NO_OPTIONS and (task is None or not task.ranked) else _rank(call, options)
        payload = self._encoded(call, options, rank)
        if self._signing is not None:
            payload = self._signing.seal_job(payload, own_id, queue)
        if len(payload) > self._most_bytes:
            raise PayloadTooLarge(
                f"{call.name}: the payload has {len(payload):,} bytes, the limit is {self._most_bytes:,} "
                "(BARQUE_MAX_PAYLOAD_BYTES). Store large data elsewhere and pass where it is."
            )
        if job_id is None and (options is NO_OPTIONS or options.due_now):
            return Enqueue(queue, own_id, payload, rank=rank)
        return Enqueue(
            queue,
            own_id,
            payload,
            fresh=False,
            delay_ms=round((seconds("delay", options.delay, least=0.0) or 0.0) * 1000),
            at_ms=max(1, round(options.at.timestamp() * 1000)) if options.at is not None else 0,
            expires_ms=round((seconds("expires", options.expires, least=0.001) or 0.0) * 1000),
            rank=rank,
        )

    def bind_unique(
        self, call: Call[Any], options: EnqueueOptions, uniqueness: Uniqueness, job_id: str | None = None
    ) -> UniqueBound:
        """Return the call as a job to add under its unique key.

        Raises:
            ConfigurationError: it is a call by name and no `unique_key` is given; or it asks for a time of its own and
                for a `Debounce`, which says when it is due.
            Exception: what a `key` that is a callable raises. Otherwise as `bind`.
        """
        if not isinstance(call, Call):
            raise not_one_call(call)
        rule = uniqueness.rule
        if rule.quiet_ms:
            if options.delay is not None or options.at is not None:
                raise ConfigurationError("Debounce says when a job is due: take delay= or at= away")
            options = dataclasses.replace(options, delay=rule.quiet_ms / 1000)
        if rule.on_conflict == "trail" and options.expires is not None:
            options.check_expires_after(rule.window_ms / 1000)
        key = digest_of(call.name, self._key_of(call, options, uniqueness))
        own_id = new_job_id() if job_id is None else check_name("job_id", job_id)
        job = Binder.bind(self, call, options, own_id)  # a subclass has shown the call to its hooks by now
        unsigned, signed = None, None
        if self._signing is not None and rule.replaces:
            unsigned, signed = self._encoded(call, options, job.rank), Signed(own_id, job.queue)
        return UniqueBound(UniqueEnqueue(job, key, rule, job_id is None, signed), call, unsigned)

    def signed_for(self, bound: UniqueBound, job_id: str, queue: str) -> UniqueBound:
        """Return a job whose payload another one may have: this one, in this queue."""
        assert self._signing is not None
        assert bound.unsigned is not None
        payload = self._signing.seal_job(bound.unsigned, job_id, queue)
        return bound._replace(item=bound.item._replace(signed=Signed(job_id, queue, payload)))

    def _key_of(self, call: Call[Any], options: EnqueueOptions, uniqueness: Uniqueness) -> Any:
        if options.unique_key is not None:
            return options.unique_key
        if call.task is None:
            raise ConfigurationError(
                f"{call.name}: a Call by name does not tell which arguments make it unique; give unique_key=, what the "
                "key of the task would make of them"
            )
        return key_of(uniqueness, call.task.signature, call.args, call.kwargs)

    def bind_fresh(self, calls: Sequence[Call[Any]]) -> FreshJobs | None:
        """Return all the calls as jobs of one queue that ask for nothing; None where one needs the long way, `bind`.

        So it is if anything is wrong with one of them: `bind` then says what.
        """
        if self._signing is not None or self._form != "msgpack":
            return None
        now = time.time_ns() // 1_000_000
        queue, task, payloads = "", None, []
        try:
            for call in calls:
                if not queue or call.task is not task:
                    if call.task is not None and call.task.options.unique is not None:
                        return None
                    task, its_queue = call.task, self._queue_of(call, NO_OPTIONS)
                    if (queue and its_queue != queue) or (task is not None and task.ranked):
                        return None
                    queue = its_queue
                payloads.append(encode_plain_job(call.name, call.args, call.kwargs, now))
        except Exception:
            return None
        if max(map(len, payloads), default=0) > self._most_bytes:
            return None
        return FreshJobs(queue, new_job_ids(len(payloads)), payloads)

    def _encoded(self, call: Call[Any], options: EnqueueOptions, rank: Rank | None) -> bytes:
        return encode_job(
            call.name,
            call.args,
            call.kwargs,
            enqueued_ms=time.time_ns() // 1_000_000,
            extras=None if options is NO_OPTIONS and rank is None else self._extras(call, options, rank),
            form=self._form,
        )

    def _queue_of(self, call: Call[Any], options: EnqueueOptions) -> str:
        queue = options.queue or (call.task.options.queue if call.task is not None else None) or self._queue
        try:
            known = queue in self._checked
        except TypeError:  # a list, say: check_name tells
            known = False
        if not known:
            if len(self._checked) == _QUEUES_KNOWN:  # a queue of its own for each caller, perhaps
                self._checked.clear()
            self._checked.add(check_name("queue", queue))
        return queue

    def _extras(self, call: Call[Any], options: EnqueueOptions, rank: Rank | None) -> Extras | None:
        # Any writer can take the payload's own TTL away, so the end is signed with the rest.
        expires = None if self._signing is None else seconds("expires", options.expires, least=0.001)
        ends_by = options.ends_by
        extras = Extras(
            timeout=seconds("timeout", options.timeout, least=0.001),
            meta=None if options.metadata is None else dict(options.metadata),
            until=None if expires is None else round((time.time() + expires + _CLOCKS_APART) * 1000),
            due=max(0, round(options.first_due * 1000)) if _counts_from_due(call, options) else None,
            soft=seconds("soft_timeout", options.soft_timeout, least=0.001),
            end=None if ends_by is None else round(ends_by * 1000),
            tries=options.max_attempts,
            lane=(rank.lane or None) if rank is not None else None,
            prio=_told_priority(call, rank),
            limit_key=options.limit_key,
            limit_cost=options.limit_cost,
        )
        return None if extras == _NO_EXTRAS else extras


_NO_EXTRAS = Extras()


def _rank(call: Call[Any], options: EnqueueOptions) -> Rank | None:
    """Return what the turn of a job comes by; None if that is its due time alone."""
    task = call.task
    priority, tenant = read_priority("priority", options.priority), options.fair_key
    if priority is None:
        priority = 0 if task is None else task.options.priority
    if tenant is None and not options.lane and task is not None and task.fair is not None:
        tenant = task.fair.of(call.args, call.kwargs)
    lane = options.lane or lane_of(tenant)
    return Rank(priority, lane) if priority > 0 or lane else None


def _told_priority(call: Call[Any], rank: Rank | None) -> int | None:
    """Return the priority that travels; 0 where the worker would else take its task's."""
    if rank is not None and rank.priority > 0:
        return rank.priority
    return 0 if call.task is not None and call.task.options.priority > 0 else None


def _counts_from_due(call: Call[Any], options: EnqueueOptions) -> bool:
    """Return whether something of this task's counts from when its job is first due, and that is not now."""
    if options.at is None and not options.delay:
        return False
    if call.task is None:  # who knows, of a name alone
        return True
    return call.task.options.deadline is not None or call.task.options.retry.max_time is not None
