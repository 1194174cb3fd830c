"""A schedule as it is stored in Redis: its bytes, its signature, and what of it people are shown.

Owns the layout of a record and the payload of each job that comes of one. Key names and scripts are
common/redis/schedules.py's. A record says what every worker will run, so where payloads are signed, records are too.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from common.codec import Extras, Form, Reading, encode_job
from common.cron_expression import parse_cron
from common.errors import ConfigurationError, Undecodable
from common.fairness import lane_of
from common.schedules import Missed, Timetable, as_moment, zone_of
from common.tasks import Call
from common.uniqueness import UniqueTick, digest_of, key_of
from common.values import MALFORMED, encode

__all__ = ["ScheduleInfo", "ScheduleRecord", "decode_record", "digest", "encode_record", "job_id_of", "payload_of"]


class ScheduleRecord(msgspec.Struct, omit_defaults=True, frozen=True):
    """One schedule, in force on the whole fleet.

    Attributes:
        args, kwargs: plain data once it was stored.
        cron: an expression, or None for an interval.
        declared: by the code of workers, rather than added while they ran.
        priority, lane: of its jobs, where its task has a priority or a fair key.
        unique: the key of its jobs and what keeps others of that key away, where its task says so.
    """

    task: str
    queue: str
    args: list[Any] = msgspec.field(default_factory=list)
    kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    cron: str | None = None
    every_ms: int = 0
    timezone: str = "UTC"
    missed: Missed = "once"
    jitter: float = 0.0
    overlap: bool = True
    declared: bool = False
    unique: UniqueTick | None = None
    priority: int = 0
    lane: str = ""

    @classmethod
    def of(cls, call: Call[Any], when: Timetable, *, queue: str, declared: bool) -> ScheduleRecord:
        """Return the record of a call and its times."""
        task = call.task
        return cls(
            task=call.name,
            queue=queue,
            args=list(call.args),
            kwargs=dict(call.kwargs),
            cron=None if when.expression is None else when.expression.text,
            every_ms=when.interval_ms,
            timezone=when.timezone,
            missed=when.missed,
            jitter=when.jitter,
            overlap=when.overlap,
            declared=declared,
            unique=unique_tick(call),
            priority=0 if task is None else task.options.priority,
            lane="" if task is None or task.fair is None else lane_of(task.fair.of(call.args, call.kwargs)),
        )

    @property
    def timetable(self) -> Timetable:
        """When it ticks.

        Raises:
            ConfigurationError: the record says what no `cron` or `every` of this version says.
        """
        return _timetable(
            self.cron, self.every_ms, self.timezone, self.missed, jitter=self.jitter, overlap=self.overlap
        )


def unique_tick(call: Call[Any]) -> UniqueTick | None:
    """Return what a call's task says of two jobs that are the same; None where it says nothing, or is not known.

    A tick never replaces, is never put off and never rejected: it is left out where a job of its key is there.
    """
    if call.task is None or call.task.options.unique is None:
        return None
    uniqueness = call.task.options.unique
    key = key_of(uniqueness, call.task.signature, call.args, call.kwargs)
    rule = uniqueness.rule
    return UniqueTick(digest_of(call.name, key), rule.until, rule.window_ms)


@functools.lru_cache(maxsize=1024)
def _timetable(
    cron: str | None, every_ms: int, timezone: str, missed: Missed, *, jitter: float, overlap: bool
) -> Timetable:
    if cron is None and every_ms < 1000:
        raise ConfigurationError("a schedule without times: neither a cron expression nor an interval")
    zone_of(timezone)
    expression = None if cron is None else parse_cron(cron)
    return Timetable(expression, every_ms if expression is None else 0, timezone, missed, jitter, overlap)


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """How a schedule stands.

    Attributes:
        when: its times as one would write them: `*/5 * * * *`, `every 30s`.
        declared: by the code of workers, rather than added while they ran.
        orphaned: declared by code that no live worker runs any more: it does not tick.
        versions: how many different declarations of it live workers have; more than one while a deploy is rolling.
        unreadable: why this version, or this program's keys, cannot read it; what it does is not known then.
        paused_at: since when it is paused; None if it is not.
        next_run: its next tick; None while it is paused. A tick in the past is one that no worker has seen yet.
        last_tick: the tick that ran last.
        last_run_at: when that was enqueued, by the server's clock.
        last_job_id: the job it became.
        runs: how many jobs came of it.
        arguments, keyword_arguments: as plain data.
    """

    name: str
    task: str
    queue: str
    when: str
    timezone: str
    missed: str
    jitter: float
    overlap: bool
    declared: bool
    orphaned: bool = False
    versions: int = 0
    unreadable: str | None = None
    paused_at: datetime | None = None
    next_run: datetime | None = None
    last_tick: datetime | None = None
    last_run_at: datetime | None = None
    last_job_id: str | None = None
    runs: int = 0
    arguments: tuple[Any, ...] = ()
    keyword_arguments: Mapping[str, Any] = field(default_factory=dict)


def encode_record(record: ScheduleRecord, name: str, reading: Reading) -> bytes:
    """Return the bytes of a record, signed where there are keys.

    Raises:
        NotSerializable: an argument has no form on the wire; the message has the path to it.
    """
    raw = encode(record, what=f"schedule {name}")
    # As a job of this id in no queue, which no worker ever claims: a record cannot be passed off as a job.
    return raw if reading.signing is None else reading.signing.seal_job(raw, _signed_as(name), "")


def decode_record(raw: bytes, name: str, reading: Reading) -> ScheduleRecord:
    """Return the record in these bytes.

    Raises:
        SignatureRefused: `reading` has keys, and none of them signed this schedule.
        Undecodable: it is no record, or none this version understands.
    """
    if reading.signing is not None:
        reading.signing.check_job(raw, _signed_as(name), "")
    try:
        record = _records.decode(raw)
        record.timetable  # noqa: B018 - whether it has one
    except MALFORMED as error:
        raise Undecodable(f"schedule {name}: not a record of a schedule: {type(error).__name__}") from None
    except ConfigurationError as error:
        raise Undecodable(f"schedule {name}: {error}") from None
    return record


_records = msgspec.msgpack.Decoder(ScheduleRecord)


def digest(raw: bytes) -> str:
    """Return what tells one declaration of a schedule from another."""
    return hashlib.sha1(raw, usedforsecurity=False).hexdigest()[:16]


def job_id_of(name: str, tick_ms: int) -> str:
    """Return the id of the job that one tick becomes: always the same, so that it cannot be there twice."""
    return f"{_signed_as(name)}:{tick_ms}"


def payload_of(
    record: ScheduleRecord, name: str, *, job_id: str, tick_ms: int, now_ms: int, form: Form, reading: Reading
) -> bytes:
    """Return the payload of the job that a tick becomes. Its metadata says which schedule, and which tick."""
    extras = Extras(
        meta={"schedule": name, "tick": as_moment(tick_ms).isoformat()},
        prio=record.priority or None,
        lane=record.lane or None,
    )
    args, kwargs = tuple(record.args), record.kwargs
    if reading.serializer is not None:  # a fleet with arq's job_serializer reads nothing else
        told = msgspec.to_builtins(extras)
        raw = reading.serializer({"t": None, "f": record.task, "a": args, "k": kwargs, "et": now_ms, "b": told})
    else:
        raw = encode_job(record.task, args, kwargs, enqueued_ms=now_ms, extras=extras, form=form)
    return raw if reading.signing is None else reading.signing.seal_job(raw, job_id, record.queue)


def _signed_as(name: str) -> str:
    return f"schedule:{name}"
