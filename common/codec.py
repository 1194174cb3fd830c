"""Job bytes, as arq lays them out, with Barque's extras under keys arq ignores.

Owns the payload map and the decision what may be decoded: msgpack by default, pickle only where a
setting allows it, or a user's own (de)serializer as arq takes them. arq's one-letter words stay inside
this file:

    job     t job_try   f function   a args   k kwargs   et enqueue time (Unix ms)
            b extras of Barque's: {timeout: seconds, meta: {…}, …}   sig signature (signing.py)

A pickle starts 0x80 and its protocol number; a msgpack map of these keys starts 0x85..0x8f or 0xde/0xdf.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from common.errors import ConfigurationError, NotSerializable, PickleRefused, Undecodable
from common.limits import MOST_COST
from common.priorities import MOST_URGENT
from common.signing import Keyring
from common.values import MALFORMED, complaint, encode, encoder, to_plain, unserializable_part

__all__ = [
    "MOST_TRIES",
    "Deserializer",
    "Extras",
    "Form",
    "Payload",
    "Reading",
    "Serializer",
    "decode_job",
    "encode_job",
    "encode_plain_job",
    "is_pickle",
    "load",
]

Serializer = Callable[[dict[str, Any]], bytes]
Deserializer = Callable[[bytes], dict[str, Any]]
Form = Literal["msgpack", "pickle", "custom"]
"""How a payload was written; its result is written the same way, so that its producer can read it."""


_LONGEST_TIMEOUT = 1e9
"""Seconds. The bounds also keep NaN and infinity out: one such deadline would stop all others of its worker."""

_LATEST = 10**14
"""Unix ms, some thousand years from now: datetime knows no moment past ten thousand."""

MOST_TRIES = 1_000_000
"""Attempts that a job may ask for."""


class Extras(msgspec.Struct, omit_defaults=True, gc=False):
    """What Barque adds to a job.

    Attributes:
        timeout: seconds one attempt may take.
        meta: metadata.
        until: Unix ms after which a signed job is not started; Redis's own TTL is for any writer to change.
        due: Unix ms at which it is first due, where that is later than its enqueue and something counts from it.
        tries: attempts it has at the most.
        lane: of its tenant, where tenants take turns.
        prio: its priority, where it has one, or is to have none though its task has.
        soft: seconds after which an attempt is told to come to an end.
        end: Unix ms at which it ends, whatever it has come to.
        limit_key: what tells it apart at its task's limits, instead of what they take from the arguments.
        limit_cost: what it costs at its task's rate limits.
        trace: W3C trace context of its enqueue, by the names of the headers; read by common/trace_context.py.
        log: variables of the log context of its enqueue; read by common/log_context.py.
    """

    timeout: Annotated[float, msgspec.Meta(gt=0, le=_LONGEST_TIMEOUT)] | None = None
    meta: dict[str, Any] | None = None
    until: int | None = None
    due: Annotated[int, msgspec.Meta(ge=0)] | None = None
    soft: Annotated[float, msgspec.Meta(gt=0, le=_LONGEST_TIMEOUT)] | None = None
    end: Annotated[int, msgspec.Meta(ge=0, le=_LATEST)] | None = None
    tries: Annotated[int, msgspec.Meta(ge=1, le=MOST_TRIES)] | None = None
    lane: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{1,64}$")] | None = None
    prio: Annotated[int, msgspec.Meta(ge=0, le=MOST_URGENT)] | None = None
    limit_key: str | None = msgspec.field(default=None, name="lk")
    limit_cost: Annotated[float, msgspec.Meta(ge=0, le=MOST_COST)] | None = msgspec.field(default=None, name="lc")
    # Any: what is wrong with these costs no job.
    trace: Any = msgspec.field(default=None, name="tc")
    log: Any = msgspec.field(default=None, name="lx")


class _JobMap(msgspec.Struct, gc=False, omit_defaults=True):
    t: int | None
    f: str
    a: Any
    k: Any
    et: int
    b: Extras | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What payloads this process decodes, and how it writes its own.

    Attributes:
        accept_pickle: decode pickles, which runs whatever code they hold.
        serializer: arq's `job_serializer`, used for all that is written when given.
        deserializer: arq's `job_deserializer`, used for all that is read when given.
        signing: what signs all that is written and checks all that is read, before it is decoded; None does neither.
    """

    accept_pickle: bool = False
    serializer: Serializer | None = None
    deserializer: Deserializer | None = None
    signing: Keyring | None = None

    def __post_init__(self) -> None:
        if self.signing is not None and (self.serializer is not None or self.deserializer is not None):
            raise ConfigurationError(
                "BARQUE_SIGNING_KEYS is set, and what a job_serializer or job_deserializer of your own makes has no "
                "place for a signature: take away the one or the others"
            )


MSGPACK_ONLY = Reading()


class Payload(
    msgspec.Struct, rename={"task": "f", "args": "a", "kwargs": "k", "enqueued_ms": "et", "job_try": "t", "extras": "b"}
):
    """A decoded job, its arguments still as msgpack (as objects, from a pickle: see `_Objects`).

    Attributes:
        form: how it was written.
        args: msgpack bytes of a list.
        kwargs: msgpack bytes of a map.
        enqueued_ms: Unix milliseconds by the producer's clock.
        job_try: a first attempt number that arq's `_job_try` asked for, or None.
    """

    form: ClassVar[Form] = "msgpack"

    task: str
    args: msgspec.Raw
    kwargs: msgspec.Raw
    enqueued_ms: int
    job_try: int | None = None
    extras: Extras | None = None

    def as_msgpack(self) -> tuple[bytes | msgspec.Raw, bytes | msgspec.Raw] | None:
        """Return both parts as msgpack, or None when they hold objects that have no such form."""
        return self.args, self.kwargs

    def as_objects(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments as plain data, unchecked.

        Raises:
            Undecodable: they are not a list and a map with text keys.
        """
        try:
            args = msgspec.msgpack.decode(self.args)
            kwargs = msgspec.msgpack.decode(self.kwargs)
        except MALFORMED as error:
            raise Undecodable(f"the arguments are not valid msgpack: {complaint(error)[1]}") from None
        if not isinstance(args, list) or not isinstance(kwargs, dict) or not all(isinstance(k, str) for k in kwargs):
            raise Undecodable("the arguments are not a list and a map with text keys")
        return tuple(args), kwargs


class _Objects(Payload):
    """A job whose arguments were decoded with the whole of it."""

    args: Any
    kwargs: Any

    def as_msgpack(self) -> tuple[bytes | msgspec.Raw, bytes | msgspec.Raw] | None:
        try:
            return encode(list(self.args)), encode(dict(self.kwargs))
        except NotSerializable:
            return None

    def as_objects(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(self.args), dict(self.kwargs)


class _Pickled(_Objects):
    form = "pickle"


class _OfTheUsers(_Objects):
    form = "custom"


_decoder = msgspec.msgpack.Decoder(Payload)
_PICKLED = b"\x80"


def is_pickle(raw: bytes) -> bool:
    """Whether the bytes look like a pickle of protocol 2 or later, as `pickle.dumps` writes them."""
    return len(raw) > 1 and raw[0] == 0x80 and 2 <= raw[1] <= 5


def encode_job(
    task: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    enqueued_ms: int,
    extras: Extras | None = None,
    form: Form = "msgpack",
) -> bytes:
    """Return the payload of a job.

    Raises:
        NotSerializable: an argument has no form on the wire; the message has the path to it.
    """
    if form == "pickle":
        return _pickle_job(task, args, kwargs, enqueued_ms, extras)
    try:
        return encoder.encode(_JobMap(None, task, args, kwargs, enqueued_ms, extras))
    except Exception as error:  # a user's own type may raise anything while it is walked
        part = next(
            (
                found
                for name, value in [*enumerate(args), *kwargs.items()]
                if (found := unserializable_part(value, f"argument {name}"))
            ),
            f"metadata or arguments: {error}",
        )
        raise NotSerializable(
            f"{task}: {part}, which has no form on the wire. Send plain data, dataclasses, msgspec structs, "
            "pydantic models, datetime, UUID, Decimal, Enum or bytes."
        ) from error


def encode_plain_job(task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], enqueued_ms: int) -> bytes:
    """Return the msgpack payload of a job without extras: `encode_job` for the common case.

    Raises:
        Exception: anything, if an argument has no form on the wire; `encode_job` then says which.
    """
    return encoder.encode(_JobMap(None, task, args, kwargs, enqueued_ms))


def _pickle_job(
    task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], enqueued_ms: int, extras: Extras | None
) -> bytes:
    data: dict[str, Any] = {"t": None, "f": task, "a": args, "k": dict(kwargs), "et": enqueued_ms}
    if extras is not None:
        data["b"] = to_plain(encode(extras, what=f"{task}: metadata"))
    try:
        return pickle.dumps(data)
    except Exception as error:
        raise NotSerializable(f"{task}: the arguments cannot be pickled: {error}") from error


def decode_job(raw: bytes, reading: Reading = MSGPACK_ONLY, job_id: str = "", queue: str = "") -> Payload:
    """Return the job in these bytes, its arguments not yet checked.

    Args:
        job_id, queue: where the bytes were found. Needed where `reading` has keys: a signature holds for these alone.

    Raises:
        SignatureRefused: `reading` has keys, and none of them signed this job.
        PickleRefused: it is a pickle, and `reading` does not accept them.
        Undecodable: it is no job.
    """
    if reading.signing is not None:
        reading.signing.check_job(raw, job_id, queue)
    if reading.deserializer is None and (raw[:1] != _PICKLED or not is_pickle(raw)):
        try:
            return _decoder.decode(raw)
        except MALFORMED as error:
            where, why = complaint(error)
            raise Undecodable(f"the payload is no job: {where.removeprefix('.') or 'all of it'}: {why}") from None
    data, form = load(raw, reading)
    kind = _Pickled if form == "pickle" else _OfTheUsers
    try:
        extras = msgspec.convert(data["b"], Extras) if data.get("b") else None
        return kind(str(data["f"]), tuple(data["a"]), dict(data["k"]), int(data["et"]), data.get("t"), extras)
    except Exception as error:  # any shape at all may come out of a pickle
        raise Undecodable(f"the payload is no job: {type(error).__name__}: {error}") from None


def load(raw: bytes, reading: Reading) -> tuple[dict[str, Any], Form]:
    """Decode with the user's deserializer, or unpickle, where that is allowed.

    Raises:
        PickleRefused, Undecodable: see `decode_job`.
    """
    if reading.deserializer is None and not reading.accept_pickle:
        raise PickleRefused(
            "the payload is a pickle, and decoding a pickle runs code. Enqueue with msgpack, or, if only "
            "trusted programs can write to this Redis, set BARQUE_ACCEPT_PICKLE=true"
        )
    try:
        data = pickle.loads(raw) if reading.deserializer is None else reading.deserializer(raw)
    except Exception as error:
        raise Undecodable(f"the payload cannot be decoded: {type(error).__name__}: {error}") from None
    if not isinstance(data, dict):
        raise Undecodable(f"the payload is a {type(data).__name__}, not a job")
    return data, "pickle" if reading.deserializer is None else "custom"
