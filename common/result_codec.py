"""Result bytes, as arq lays them out, with Barque's extras under keys arq ignores.

Owns the result map, in the two forms a job may have come in. arq's one-letter words stay inside this file:

    t f a k et  as in the job (codec.py)   s success   r result   st start ms   ft finish ms   q queue   id job id
    o outcome word   w worker id   e {type, message, traceback}   m metadata   sig signature (signing.py)
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import Callable
from typing import Any

import msgspec

from common.codec import MSGPACK_ONLY, Form, Payload, Reading, is_pickle, load
from common.errors import NotSerializable, Undecodable
from common.jobs import RemoteError
from common.signing import Keyring
from common.values import MALFORMED, complaint, encoder, unserializable_part

__all__ = ["IGNORED", "Result", "decode_result", "encode_result", "encode_success"]

IGNORED = "ignored"
"""In place of an outcome's word: the job succeeded without a result, for its error was one to ignore."""


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
    d: tuple[int, int, int] | None = None


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
    d: tuple[int, int, int] | None = None


_result_in = msgspec.msgpack.Decoder(_ResultIn)


class Result(msgspec.Struct):
    """How a job ended, as stored under its result key.

    Attributes:
        value: the return value; msgpack bytes (`msgspec.Raw`) when decoded from msgpack.
        error: what went wrong, when `success` is false.
        exception: the exception itself, where it travelled as a pickle.
        outcome: the word of an OutcomeKind, IGNORED, or "" where a stock arq worker wrote it.
        timing: the parts of a StepTiming; None where no worker of ours ran it.
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
    timing: tuple[int, int, int] | None = None


_EMPTY_LIST = msgspec.Raw(b"\x90")
_EMPTY_MAP = msgspec.Raw(b"\x80")


def encode_result(result: Result, reading: Reading = MSGPACK_ONLY) -> bytes:
    """Return the result's bytes, in the form its job came in, signed where `reading` has keys.

    Raises:
        NotSerializable: the return value has no form on the wire; the message has the path to it.
    """
    raw = _encode_result(result, reading)
    return raw if reading.signing is None else reading.signing.seal_result(raw, result.job_id)


def _encode_result(result: Result, reading: Reading) -> bytes:
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
    job_id: str,
    queue: str,
    attempt: int,
    started_ms: int,
    finished_ms: int,
    worker: str,
    timing: tuple[int, int, int],
    signing: Keyring | None,
) -> bytes:
    """Return the result of a job that succeeded and came as msgpack: `encode_result` for the common case.

    Arguments are told by their place: by name, passing them would take as long as encoding them does.

    Raises:
        Exception: anything, if the value has no form on the wire; `encode_result` then says which part.
    """
    raw = encoder.encode(
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
            timing,
        )
    )
    return raw if signing is None else signing.seal_result(raw, job_id)


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
        result.timing,
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
    if result.timing is not None:
        data["d"] = result.timing
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


def decode_result(raw: bytes, reading: Reading = MSGPACK_ONLY, job_id: str = "") -> Result:
    """Return the result in these bytes.

    Args:
        job_id: whose result it is said to be. Needed where `reading` has keys: a signature holds for this one alone.

    Raises:
        SignatureRefused: `reading` has keys, and none of them signed this result.
        PickleRefused: it is a pickle, and `reading` does not accept them.
        Undecodable: it is no result.
    """
    if reading.signing is not None:
        reading.signing.check_result(raw, job_id)
    if reading.deserializer is None and not is_pickle(raw):
        return _decode_msgpack_result(raw)
    data, form = load(raw, reading)
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
            timing=tuple(data["d"]) if data.get("d") else None,
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
        timing=data.d,
    )


def _describe(value: Any) -> RemoteError:
    if isinstance(value, BaseException):
        kind = type(value)
        return RemoteError(f"{kind.__module__}.{kind.__qualname__}", str(value))
    return RemoteError("arq.jobs.SerializationError", str(value))
