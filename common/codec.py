"""Job and result bytes, as arq lays them out, with Barque's extras under keys arq ignores.

Owns the two payload maps and the decision what may be decoded: msgpack by default, pickle only where a
setting allows it, or a user's own (de)serializer as arq takes them. arq's one-letter words stay inside
this file:

    job     t job_try   f function   a args   k kwargs   et enqueue time (Unix ms)
            b extras of Barque's: {timeout: seconds, meta: {…}}
    result  t f a k et  s success   r result   st start ms   ft finish ms   q queue   id job id
            o outcome word   w worker id   e {type, message, traceback}   m metadata

A pickle starts 0x80 and its protocol number; a msgpack map of these keys starts 0x85..0x8f or 0xde/0xdf.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from common.errors import NotSerializable, PickleRefused, Undecodable
from common.jobs import RemoteError
from common.values import MALFORMED, complaint, encode, encoder, to_plain, unserializable_part

__all__ = [
    "Deserializer",
    "Extras",
    "Form",
    "Payload",
    "Reading",
    "Result",
    "Serializer",
    "decode_job",
    "decode_result",
    "encode_job",
    "encode_result",
    "encode_success",
    "is_pickle",
]

Serializer = Callable[[dict[str, Any]], bytes]
Deserializer = Callable[[bytes], dict[str, Any]]
Form = Literal["msgpack", "pickle", "custom"]
"""How a payload was written; its result is written the same way, so that its producer can read it."""


_LONGEST_TIMEOUT = 1e9
"""Seconds. The bounds also keep NaN and infinity out: one such deadline would stop all others of its worker."""


class Extras(msgspec.Struct, omit_defaults=True, gc=False):
    """What Barque adds to a job."""

    timeout: Annotated[float, msgspec.Meta(gt=0, le=_LONGEST_TIMEOUT)] | None = None
    meta: dict[str, Any] | None = None


class _JobMap(msgspec.Struct, gc=False, omit_defaults=True):
    t: int | None
    f: str
    a: Any
    k: Any
    et: int
    b: Extras | None = None


class _JobIn(msgspec.Struct, gc=False):
    f: str
    a: msgspec.Raw
    k: msgspec.Raw
    et: int
    t: int | None = None
    b: Extras | None = None


class _ErrorMap(msgspec.Struct, gc=False):
    type: str
    message: str
    traceback: str = ""


class _ResultMap(msgspec.Struct, gc=False, omit_defaults=True):
    t: int
    f: str
    a: Any
    k: Any
    et: int
    s: bool
    r: Any
    st: int
    ft: int
    q: str
    id: str
    o: str = ""
    w: str = ""
    e: _ErrorMap | None = None
    m: dict[str, Any] | None = None


class _ResultIn(msgspec.Struct, gc=False):
    f: str
    s: bool
    r: msgspec.Raw
    t: int = 1
    a: msgspec.Raw = msgspec.Raw(b"\x90")
    k: msgspec.Raw = msgspec.Raw(b"\x80")
    et: int = 0
    st: int = 0
    ft: int = 0
    q: str = ""
    id: str = ""
    o: str = ""
    w: str = ""
    e: _ErrorMap | None = None
    m: dict[str, Any] | None = None


_job_in = msgspec.msgpack.Decoder(_JobIn)
_result_in = msgspec.msgpack.Decoder(_ResultIn)


@dataclass(frozen=True, slots=True)
class Reading:
    """What payloads this process decodes, and how it writes its own.

    Attributes:
        accept_pickle: decode pickles, which runs whatever code they hold.
        serializer: arq's `job_serializer`, used for all that is written when given.
        deserializer: arq's `job_deserializer`, used for all that is read when given.
    """

    accept_pickle: bool = False
    serializer: Serializer | None = None
    deserializer: Deserializer | None = None


MSGPACK_ONLY = Reading()


class Payload:
    """A decoded job, its arguments still as msgpack (or as objects, from a pickle).

    Attributes:
        args: msgpack bytes of a list when `form` is "msgpack", else a sequence of objects.
        kwargs: msgpack bytes of a map when `form` is "msgpack", else a mapping of objects.
        job_try: a first attempt number that arq's `_job_try` asked for, or None.
        enqueued_ms: Unix milliseconds by the producer's clock.
    """

    __slots__ = ("args", "enqueued_ms", "extras", "form", "job_try", "kwargs", "task")

    def __init__(
        self,
        task: str,
        args: Any,
        kwargs: Any,
        enqueued_ms: int,
        job_try: int | None,
        extras: Extras | None,
        form: Form,
    ) -> None:
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.enqueued_ms = enqueued_ms
        self.job_try = job_try
        self.extras = extras
        self.form = form

    def as_msgpack(self) -> tuple[bytes | msgspec.Raw, bytes | msgspec.Raw] | None:
        """Return both parts as msgpack, or None when they hold objects that have no such form."""
        if self.form == "msgpack":
            return self.args, self.kwargs
        try:
            return encode(list(self.args)), encode(dict(self.kwargs))
        except NotSerializable:
            return None

    def as_objects(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments as plain data, unchecked.

        Raises:
            Undecodable: they are not a list and a map with text keys.
        """
        if self.form != "msgpack":
            return tuple(self.args), dict(self.kwargs)
        try:
            args = msgspec.msgpack.decode(self.args)
            kwargs = msgspec.msgpack.decode(self.kwargs)
        except MALFORMED as error:
            raise Undecodable(f"the arguments are not valid msgpack: {complaint(error)[1]}") from None
        if not isinstance(args, list) or not isinstance(kwargs, dict) or not all(isinstance(k, str) for k in kwargs):
            raise Undecodable("the arguments are not a list and a map with text keys")
        return tuple(args), kwargs


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


def decode_job(raw: bytes, reading: Reading = MSGPACK_ONLY) -> Payload:
    """Return the job in these bytes, its arguments not yet checked.

    Raises:
        PickleRefused: it is a pickle, and `reading` does not accept them.
        Undecodable: it is no job.
    """
    if reading.deserializer is None and not is_pickle(raw):
        try:
            job = _job_in.decode(raw)
        except MALFORMED as error:
            where, why = complaint(error)
            raise Undecodable(f"the payload is no job: {where.removeprefix('.') or 'all of it'}: {why}") from None
        return Payload(job.f, job.a, job.k, job.et, job.t, job.b, "msgpack")
    data, form = _load(raw, reading)
    try:
        extras = msgspec.convert(data["b"], Extras) if data.get("b") else None
        return Payload(str(data["f"]), tuple(data["a"]), dict(data["k"]), int(data["et"]), data.get("t"), extras, form)
    except Exception as error:  # any shape at all may come out of a pickle
        raise Undecodable(f"the payload is no job: {type(error).__name__}: {error}") from None


def _load(raw: bytes, reading: Reading) -> tuple[dict[str, Any], Form]:
    """Decode with the user's deserializer, or unpickle, where that is allowed."""
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


@dataclass(slots=True)
class Result:
    """How a job ended, as stored under its result key.

    Attributes:
        value: the return value; msgpack bytes (`msgspec.Raw`) when decoded from msgpack.
        error: what went wrong, when `success` is false.
        exception: the exception itself, where it travelled as a pickle.
        outcome: the word of an OutcomeKind, or "" where a stock arq worker wrote it.
    """

    job_id: str
    task: str
    queue: str
    success: bool
    value: Any
    attempt: int
    enqueued_ms: int
    started_ms: int
    finished_ms: int
    args: Any = ()
    kwargs: Any = None
    outcome: str = ""
    worker: str = ""
    error: RemoteError | None = None
    exception: BaseException | None = None
    form: Form = "msgpack"
    metadata: dict[str, Any] | None = None


_EMPTY_LIST = msgspec.Raw(b"\x90")
_EMPTY_MAP = msgspec.Raw(b"\x80")


def encode_result(result: Result, reading: Reading = MSGPACK_ONLY) -> bytes:
    """Return the result's bytes, in the form its job came in.

    Raises:
        NotSerializable: the return value has no form on the wire; the message has the path to it.
    """
    if result.form != "msgpack":
        return _encode_result_objects(result, reading)
    try:
        return encoder.encode(_result_map(result, str))
    except Exception as failure:
        if isinstance(failure, UnicodeEncodeError):
            # An exception's text or an id from elsewhere may hold what UTF-8 cannot (a file name, as Python gives it).
            with contextlib.suppress(Exception):
                return encoder.encode(_result_map(result, _utf8))
        part = unserializable_part(result.value, "the result") or f"the result: {failure}"
        raise NotSerializable(f"{result.task}: {part}, which has no form on the wire") from failure


def encode_success(
    payload: Payload,
    value: Any,
    *,
    job_id: str,
    queue: str,
    attempt: int,
    started_ms: int,
    finished_ms: int,
    worker: str,
) -> bytes:
    """Return the result of a job that succeeded and came as msgpack: `encode_result` for the common case.

    Raises:
        Exception: anything, if the value has no form on the wire; `encode_result` then says which part.
    """
    return encoder.encode(
        _ResultMap(
            attempt,
            payload.task,
            payload.args,
            payload.kwargs,
            payload.enqueued_ms,
            True,
            value,
            started_ms,
            finished_ms,
            queue,
            job_id,
            "succeeded",
            worker,
            None,
            None if payload.extras is None else payload.extras.meta,
        )
    )


def _result_map(result: Result, text: Callable[[str], str]) -> _ResultMap:
    """Lay a result out; `text` treats each of its words but those of the value."""
    error = None
    if result.error is not None:
        error = _ErrorMap(text(result.error.type), text(result.error.message), text(result.error.traceback))
    return _ResultMap(
        result.attempt,
        text(result.task),
        result.args if result.args != () else _EMPTY_LIST,
        result.kwargs if result.kwargs is not None else _EMPTY_MAP,
        result.enqueued_ms,
        result.success,
        result.value if error is None else f"{error.type}: {error.message}",
        result.started_ms,
        result.finished_ms,
        text(result.queue),
        text(result.job_id),
        result.outcome,
        result.worker,
        error,
        result.metadata,
    )


def _utf8(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _encode_result_objects(result: Result, reading: Reading) -> bytes:
    """Write what arq itself would write: the exception object, and the arguments as objects."""
    error = result.error
    data: dict[str, Any] = {
        "t": result.attempt,
        "f": result.task,
        "a": result.args,
        "k": result.kwargs if result.kwargs is not None else {},
        "et": result.enqueued_ms,
        "s": result.success,
        "r": result.value if error is None else result.exception or f"{error.type}: {error.message}",
        "st": result.started_ms,
        "ft": result.finished_ms,
        "q": result.queue,
        "id": result.job_id,
        "o": result.outcome,
        "w": result.worker,
    }
    if error is not None:
        data["e"] = {"type": error.type, "message": error.message, "traceback": error.traceback}
    try:
        return _serialized(data, reading)
    except Exception as failure:
        if error is None:
            raise NotSerializable(f"{result.task}: the result cannot be serialised: {failure}") from failure
    data["r"] = "unable to serialize result"  # arq's own words (jobs.serialize_result)
    try:
        return _serialized(data, reading)
    except Exception:
        data.update(a=(), k={})
        return _serialized(data, reading)


def _serialized(data: dict[str, Any], reading: Reading) -> bytes:
    stored: Any = (reading.serializer or pickle.dumps)(data)
    if not isinstance(stored, bytes):
        raise NotSerializable(f"job_serializer returned {type(stored).__name__}, not bytes")
    return stored


def decode_result(raw: bytes, reading: Reading = MSGPACK_ONLY) -> Result:
    """Return the result in these bytes.

    Raises:
        PickleRefused: it is a pickle, and `reading` does not accept them.
        Undecodable: it is no result.
    """
    if reading.deserializer is None and not is_pickle(raw):
        return _decode_msgpack_result(raw)
    data, form = _load(raw, reading)
    try:
        success, value = bool(data["s"]), data["r"]
        detail = data.get("e")
        error = exception = None
        if not success:
            exception = value if isinstance(value, BaseException) else None
            error = RemoteError(**detail) if detail else _describe(value)
        return Result(
            job_id=data.get("id", ""),
            task=data["f"],
            queue=data.get("q", ""),
            success=success,
            value=value if success else None,
            attempt=data["t"],
            enqueued_ms=data["et"],
            started_ms=data["st"],
            finished_ms=data["ft"],
            args=data["a"],
            kwargs=data["k"],
            outcome=data.get("o", "") or ("cancelled" if isinstance(value, asyncio.CancelledError) else ""),
            worker=data.get("w", ""),
            error=error,
            exception=exception,
            form=form,
        )
    except Exception as failure:
        raise Undecodable(f"the stored result is no result: {failure}") from None


def _decode_msgpack_result(raw: bytes) -> Result:
    try:
        data = _result_in.decode(raw)
        error = None
        if not data.s:
            error = (
                RemoteError(data.e.type, data.e.message, data.e.traceback)
                if data.e
                else _describe(msgspec.msgpack.decode(data.r))
            )
    except MALFORMED as failure:
        where, why = complaint(failure)
        raise Undecodable(f"the stored result is no result: {where.removeprefix('.') or 'all of it'}: {why}") from None
    return Result(
        job_id=data.id,
        task=data.f,
        queue=data.q,
        success=data.s,
        value=data.r,
        attempt=data.t,
        enqueued_ms=data.et,
        started_ms=data.st,
        finished_ms=data.ft,
        args=data.a,
        kwargs=data.k,
        outcome=data.o,
        worker=data.w,
        error=error,
        metadata=data.m,
    )


def _describe(value: Any) -> RemoteError:
    if isinstance(value, BaseException):
        kind = type(value)
        return RemoteError(f"{kind.__module__}.{kind.__qualname__}", str(value))
    return RemoteError("arq.jobs.SerializationError", str(value))
