"""What a running job tells of itself: how far it is, and the items of its stream.

Owns the two records as users see them, their bytes, and what a `Context` outside a worker does with them: it keeps
them, for a test to look at. Knows no Redis. On the wire each is a msgpack map, and ends in a signature (signing.py):

    progress   d done   n total   m message   a attempt   at Unix ms
    item       a attempt   n number in the attempt, from 1   v value
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from common.codec import MSGPACK_ONLY, Reading
from common.errors import NotSerializable, PayloadTooLarge, StreamFull, Undecodable
from common.values import MALFORMED, ValueReader, complaint, encode, encoder, to_plain

__all__ = [
    "Collected",
    "Item",
    "Outlet",
    "Progress",
    "StreamLimits",
    "decode_item",
    "decode_progress",
    "encode_item",
    "encode_progress",
    "encode_value",
]

T_co = TypeVar("T_co", covariant=True)

_LONGEST_MESSAGE = 1000
"""Characters. A message is a line for people; it is written some times a second."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, as it last said itself.

    Attributes:
        done: how much is done, in whatever the task counts.
        total: how much there is to do, where that is known.
        message: what it is about, in words.
        at: when it said so, by the server's clock, in UTC.
        attempt: the number of the attempt that said it.
    """

    done: float
    total: float | None
    message: str
    at: datetime
    attempt: int

    @property
    def fraction(self) -> float | None:
        """The part that is done, from 0 to 1; None where the total is not known. Nothing to do is all done."""
        if self.total is None:
            return None
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Item(Generic[T_co]):
    """One item of a job's stream.

    Attributes:
        value: what the task emitted.
        attempt: the number of the attempt that emitted it.
        number: its place in that attempt's stream, from 1, without gaps. Where it is 1 the stream begins, or begins
            anew: what came before was of an attempt that did not end well.
    """

    value: T_co
    attempt: int
    number: int


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How large the stream of one attempt may be.

    Attributes:
        items, size: the most items and bytes it may have.
        item: the most bytes of one item.
    """

    items: int = 100_000
    size: int = 64 * 1024 * 1024
    item: int = 1024 * 1024

    def check(self, job: str, size: int, *, items: int, total: int) -> None:
        """Return if one more item has room.

        Args:
            job: what the error calls the job.
            size: bytes of the item.
            items, total: how many came before it, and their bytes.

        Raises:
            PayloadTooLarge: the item is over its limit.
            StreamFull: the stream is.
        """
        if size > self.item:
            raise PayloadTooLarge(
                f"{job}: an item of {size:,} bytes, the limit is {self.item:,} (BARQUE_STREAM_MAX_ITEM_BYTES). Emit "
                "smaller parts, or store it elsewhere and emit where it is"
            )
        if items >= self.items:
            raise StreamFull(
                f"{job}: its stream has {items:,} items, which is the limit (BARQUE_STREAM_MAX_ITEMS). All are kept "
                "for readers that start over, so none makes room: emit several as one"
            )
        if total + size > self.size:
            raise StreamFull(
                f"{job}: its stream has {total:,} bytes, and {size:,} more would pass the limit of {self.size:,} "
                "(BARQUE_STREAM_MAX_BYTES). All items are kept for readers that start over, so none makes room: store "
                "large data elsewhere and emit where it is"
            )


class Outlet(Protocol):
    """Where the progress and the items of one attempt go."""

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Take note of how far it is."""
        ...

    async def emit(self, value: Any) -> None:
        """Add an item to the stream, when there is room."""
        ...


class Collected:
    """What a task said of itself without a worker, for a test to look at; refuses what a worker would.

    Attributes:
        progress_made: every progress, in order; a worker sends fewer.
        items: every item's value, as it was given.
    """

    def __init__(self, attempt: int, limits: StreamLimits | None = None) -> None:
        self._attempt = attempt
        self._limits = limits if limits is not None else StreamLimits()
        self._size = 0
        self.progress_made: list[Progress] = []
        self.items: list[Any] = []

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Keep it.

        Raises:
            NotSerializable: it is no progress: a worker would drop it, and log why.
        """
        raw = encode_progress(done, total, message, attempt=self._attempt, at_ms=time.time_ns() // 1_000_000)
        self.progress_made.append(decode_progress(raw))

    async def emit(self, value: Any) -> None:
        """Keep it.

        Raises:
            NotSerializable, PayloadTooLarge, StreamFull: as in a worker.
        """
        size = len(encode_value(value))
        self._limits.check("this task", size, items=len(self.items), total=self._size)
        self._size += size
        self.items.append(value)


class _ProgressIn(msgspec.Struct, gc=False):
    d: int | float
    a: int
    at: int
    n: int | float | None = None
    m: str = ""


class _ItemMap(msgspec.Struct, gc=False):
    a: int
    n: int
    v: msgspec.Raw


_progress_in = msgspec.msgpack.Decoder(_ProgressIn)
_item_in = msgspec.msgpack.Decoder(_ItemMap)


def encode_progress(
    done: float,
    total: float | None,
    message: str,
    *,
    attempt: int,
    at_ms: int,
    job_id: str = "",
    reading: Reading = MSGPACK_ONLY,
) -> bytes:
    """Return a progress's bytes, signed where `reading` has keys.

    Raises:
        NotSerializable: `done` or `total` is no number.
    """
    for name, value in (("done", done), ("total", total)):
        given: Any = value
        if value is not None and not (isinstance(given, int | float) and math.isfinite(given)):
            raise NotSerializable(f"progress: {name} is no number: {type(value).__name__}")
    text = str(message)[:_LONGEST_MESSAGE].encode(errors="backslashreplace").decode()
    raw = encode({"d": done, "n": total, "m": text, "a": attempt, "at": at_ms}, what="progress")
    return raw if reading.signing is None else reading.signing.seal_progress(raw, job_id)


def decode_progress(raw: bytes, reading: Reading = MSGPACK_ONLY, job_id: str = "") -> Progress:
    """Return the progress in these bytes.

    Raises:
        SignatureRefused: `reading` has keys, and none of them signed this progress of this job.
        Undecodable: it is none.
    """
    if reading.signing is not None:
        reading.signing.check_progress(raw, job_id)
    try:
        data = _progress_in.decode(raw)
        at = datetime.fromtimestamp(data.at / 1000, tz=UTC)
    except (*MALFORMED, ValueError, OverflowError, OSError) as error:
        where, why = complaint(error)
        raise Undecodable(f"the stored progress is none: {where.removeprefix('.') or 'all of it'}: {why}") from None
    return Progress(data.d, data.n, data.m, at, data.a)


def encode_value(value: Any) -> bytes:
    """Return an item's value as msgpack.

    Raises:
        NotSerializable: a part has no form on the wire; the message has the path to it.
    """
    return encode(value, what="item")


def encode_item(value: bytes, *, attempt: int, number: int, job_id: str, reading: Reading = MSGPACK_ONLY) -> bytes:
    """Return an item's bytes, signed where `reading` has keys.

    Args:
        value: from `encode_value`.
    """
    raw = encoder.encode(_ItemMap(attempt, number, msgspec.Raw(value)))
    return raw if reading.signing is None else reading.signing.seal_item(raw, job_id)


def decode_item(
    raw: bytes, number: int, job_id: str, reading: Reading = MSGPACK_ONLY, kind: ValueReader | None = None
) -> Item[Any]:
    """Return the item in these bytes.

    Args:
        number: its place in the stream, as the stream says.
        kind: reads the value as a type; None leaves plain data.

    Raises:
        SignatureRefused: `reading` has keys, and none of them signed this item of this job; or it was moved.
        Undecodable: it is none.
        ArgumentMismatch: its value is not of this type.
    """
    if reading.signing is not None:
        reading.signing.check_item(raw, job_id)
    try:
        data = _item_in.decode(raw)
        if data.n != number:
            raise Undecodable(f"item {number} of job {job_id} says that it is item {data.n}: somebody moved it")
        value = to_plain(data.v) if kind is None else kind.read(data.v, f"item {number} of job {job_id}")
    except MALFORMED as error:
        where, why = complaint(error)
        raise Undecodable(
            f"item {number} of job {job_id} is none: {where.removeprefix('.') or 'all of it'}: {why}"
        ) from None
    return Item(value, data.a, data.n)
