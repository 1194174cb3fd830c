"""Make jobs that carry what their enqueue knows: a trace context, variables of the log.

Owns which binder a producer has. One that carries nothing and has no hooks uses `Binder` itself, and pays nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from common.codec import Extras, encode_job
from common.errors import ConfigurationError
from common.redis.store import Rank
from common.settings import Settings
from common.signing import Keyring
from common.tasks import Call
from producer.binding import Binder
from producer.enqueue_hooks import EnqueueHook, HookedBinder
from producer.options import EnqueueOptions

if TYPE_CHECKING:
    from producer.tracing import EnqueueSpans

__all__ = ["CarryingBinder", "binder_of", "spans_of"]

Carrier = Callable[[Extras], None]
"""Puts what is to travel into a job's extras. Never raises."""

_NOTHING = Extras()


class CarryingBinder(HookedBinder):
    """A Binder whose jobs carry more than was asked for."""

    def __init__(
        self,
        settings: Settings,
        signing: Keyring | None,
        hooks: Sequence[EnqueueHook],
        carriers: Sequence[Carrier],
    ) -> None:
        super().__init__(settings, signing, hooks)
        self._carriers = carriers

    def _encoded(self, call: Call[Any], options: EnqueueOptions, rank: Rank | None) -> bytes:
        extras = self._extras(call, options, rank) or Extras()
        for carry in self._carriers:
            carry(extras)
        return encode_job(
            call.name,
            call.args,
            call.kwargs,
            enqueued_ms=time.time_ns() // 1_000_000,
            extras=None if extras == _NOTHING else extras,
            form=self._form,
        )


def spans_of(settings: Settings, tracing: EnqueueSpans | bool | None) -> EnqueueSpans | None:  # noqa: FBT001 - Producer's
    """Return what makes the spans of a producer; None where it makes none.

    Raises:
        ConfigurationError: OpenTelemetry is not installed.
    """
    wanted = settings.traces if tracing is None else tracing
    if not isinstance(wanted, bool):
        return wanted
    if not wanted:
        return None
    try:
        from producer.tracing import EnqueueSpans  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        said = "BARQUE_TRACES" if tracing is None else "tracing=True"
        raise ConfigurationError(
            f"{said}: {error.name} is not installed; pip install 'barque[opentelemetry]', or take it away"
        ) from None
    return EnqueueSpans(baggage=settings.trace_baggage)


def binder_of(
    settings: Settings, signing: Keyring | None, hooks: Sequence[EnqueueHook], spans: EnqueueSpans | None
) -> Binder:
    """Return what makes a producer's jobs."""
    carriers: list[Carrier] = []
    if spans is not None:
        carriers.append(spans.carry)
    if settings.log_context:
        from common.log_context import LogContext  # noqa: PLC0415 - for those who use it

        carriers.append(LogContext(settings.log_context).carry)
    if carriers:
        return CarryingBinder(settings, signing, tuple(hooks), carriers)
    return HookedBinder(settings, signing, tuple(hooks)) if hooks else Binder(settings, signing)
