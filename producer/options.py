"""What an enqueue may ask for, checked and turned into what the store takes."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from common.codec import Extras, Form, encode_job
from common.errors import ConfigurationError, PayloadTooLarge
from common.jobs import new_job_id
from common.redis.store import Enqueue
from common.settings import Settings
from common.signing import Keyring
from common.tasks import Call

__all__ = ["EnqueueOptions", "check_id_from_elsewhere", "check_name", "not_one_call"]

_LONGEST = 10 * 365 * 24 * 3600.0
_CLOCKS_APART = 60.0
"""Seconds by which a producer's clock may be behind before a signed job that expires is refused too early."""

_NOT_IN_NAMES = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]")
_NOT_IN_BYTES = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class EnqueueOptions:
    """What one enqueue asks for; None takes the task's or the worker's default.

    Attributes:
        delay: seconds until it is due, by the server's clock.
        at: when it is due; aware of its time zone.
        expires: seconds after which it is not started any more, nor tried again.
        timeout: seconds one attempt may take.
        metadata: plain data that travels with the job and is seen by the task, by `info()` and in tools.
    """

    delay: float | timedelta | None = None
    at: datetime | None = None
    expires: float | timedelta | None = None
    queue: str | None = None
    timeout: float | timedelta | None = None
    metadata: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.delay is not None and self.at is not None:
            raise ConfigurationError("give delay= or at=, not both")
        if self.at is not None and self.at.tzinfo is None:
            raise ConfigurationError("at= needs a time zone: datetime.now(tz=UTC) + …, or .astimezone()")
        delay = _seconds("delay", self.delay, least=0.0) or 0.0
        expires = _seconds("expires", self.expires, least=0.001)
        if self.at is not None:
            delay = self.at.timestamp() - time.time()
        if expires is not None and expires <= delay:
            raise ConfigurationError(
                f"expires={expires:g} s is over before the job is due in {delay:g} s; expires counts from now"
            )
        _seconds("timeout", self.timeout, least=0.001)

    def bind(
        self, call: Call[Any], settings: Settings, job_id: str | None = None, signing: Keyring | None = None
    ) -> Enqueue:
        """Return the call as a job to add, signed where there are keys.

        Raises:
            NotSerializable: an argument has no form on the wire.
            PayloadTooLarge: the payload is over `BARQUE_MAX_PAYLOAD_BYTES`.
            ConfigurationError: the job id or queue name cannot be one.
        """
        if not isinstance(call, Call):
            raise not_one_call(call)
        fresh = job_id is None and self.delay is None and self.at is None and self.expires is None
        queue = self.queue or (call.task.options.queue if call.task is not None else None) or settings.queues[0]
        check_name("queue", queue)
        job_id = new_job_id() if job_id is None else check_name("job_id", job_id)
        payload = encode_job(
            call.name,
            call.args,
            call.kwargs,
            enqueued_ms=time.time_ns() // 1_000_000,
            extras=self._extras() if signing is None else self._signed_extras(),
            form=_form(settings),
        )
        if signing is not None:
            payload = signing.seal_job(payload, job_id, queue)
        if len(payload) > settings.max_payload_bytes:
            raise PayloadTooLarge(
                f"{call.name}: the payload has {len(payload):,} bytes, the limit is {settings.max_payload_bytes:,} "
                "(BARQUE_MAX_PAYLOAD_BYTES). Store large data elsewhere and pass where it is."
            )
        if fresh:
            return Enqueue(queue, job_id, payload)
        return Enqueue(
            queue,
            job_id,
            payload,
            fresh=False,
            delay_ms=round((_seconds("delay", self.delay, least=0.0) or 0.0) * 1000),
            at_ms=max(1, round(self.at.timestamp() * 1000)) if self.at is not None else 0,
            expires_ms=round((_seconds("expires", self.expires, least=0.001) or 0.0) * 1000),
        )

    def _extras(self) -> Extras | None:
        if self.timeout is None and self.metadata is None:
            return None
        metadata = None if self.metadata is None else dict(self.metadata)
        return Extras(timeout=_seconds("timeout", self.timeout, least=0.001), meta=metadata)

    def _signed_extras(self) -> Extras | None:
        """Return what is signed besides: the end, since any writer can take the payload's own TTL away."""
        extras = self._extras()
        expires = _seconds("expires", self.expires, least=0.001)
        if expires is None:
            return extras
        extras = extras or Extras()
        extras.until = round((time.time() + expires + _CLOCKS_APART) * 1000)
        return extras


def not_one_call(given: object, surplus: Sequence[object] = ()) -> ConfigurationError:
    """Return the error for what was given to enqueue instead of one Call. Shows no argument."""
    what = type(given).__name__
    if surplus:
        what += f" and {len(surplus)} more argument{'' if len(surplus) == 1 else 's'}"
    return ConfigurationError(
        f"enqueue takes a Call, got {what}: call the task, as in enqueue(fetch_url(url)), "
        'or name it: enqueue(Call("fetch_url", url))'
    )


def check_id_from_elsewhere(option: str, name: object) -> str:
    """Return the id of a job, or the name of a queue, that another program may have made: any text there can be.

    Raises:
        ConfigurationError: it is no text, is empty, or has a lone surrogate, which has no form in bytes.
    """
    if not isinstance(name, str) or not name or _NOT_IN_BYTES.search(name):
        raise ConfigurationError(f"{option}={name!r}: give text, without lone surrogates")
    return name


def _form(settings: Settings) -> Form:
    return "pickle" if settings.payload_format == "pickle" else "msgpack"


def _seconds(name: str, value: float | timedelta | None, *, least: float) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    try:
        fits = least <= seconds <= _LONGEST
    except TypeError:  # "60s", say
        fits = False
    if not fits:
        raise ConfigurationError(f"{name}={value!r}: give seconds, or a timedelta, of {least:g} or more")
    return float(seconds)


def check_name(option: str, name: object) -> str:
    """Return the name of a queue, or the id of a job, of our own making.

    Raises:
        ConfigurationError: it cannot be one.
    """
    if not isinstance(name, str) or not name or len(name) > 512 or _NOT_IN_NAMES.search(name):
        raise ConfigurationError(
            f"{option}={name!r}: give text of 1 to 512 characters without spaces, control characters or lone surrogates"
        )
    return name
