"""What of an OpenTelemetry trace travels with a job: W3C trace context and, where that is wanted, baggage.

Owns the form it has in a payload, and what a foreign one is taken for. Spans of enqueues are producer/tracing.py's,
those of attempts workers/tracing.py's. Imports OpenTelemetry, which is an extra: import this where tracing is on.
"""

from __future__ import annotations

import importlib.metadata

import structlog
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, get_current
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["TraceContext", "tracer_of", "warn_once"]

_NAMES = ("traceparent", "tracestate", "baggage")
_LONGEST = 8192
"""Characters of one header that are looked at; W3C asks for as many of baggage, and 512 of the others."""

log = structlog.get_logger("barque.traces")
_warned: set[str] = set()


class TraceContext:
    """Writes the current trace context into payloads, and reads it there.

    Args:
        baggage: let OpenTelemetry's baggage travel too. It may hold what is nobody else's business, and a producer
            that is not trusted may put into it what it likes: off unless asked for.
    """

    def __init__(self, *, baggage: bool = False) -> None:
        self._trace = TraceContextTextMapPropagator()
        self._baggage = W3CBaggagePropagator() if baggage else None
        self._last: tuple[Context | None, dict[str, str] | None] = (None, None)

    def carried(self) -> dict[str, str] | None:
        """Return what is to travel of the current context; None if there is nothing."""
        context = get_current()
        # A Context never changes, and the jobs of one call have one: told by identity, made once.
        last, found = self._last
        if last is context:
            return found
        carrier: dict[str, str] = {}
        self._trace.inject(carrier, context)
        if self._baggage is not None:
            self._baggage.inject(carrier, context)
        self._last = (context, carrier or None)
        return carrier or None

    def read(self, carried: object) -> Context:
        """Return a context with what travelled, and nothing of the current one; what is no trace context is none."""
        context = Context()
        if not isinstance(carried, dict):
            return context
        carrier = {
            name: value for name in _NAMES if isinstance(value := carried.get(name), str) and 0 < len(value) <= _LONGEST
        }
        context = self._trace.extract(carrier, context)
        return context if self._baggage is None else self._baggage.extract(carrier, context)


def tracer_of(provider: trace.TracerProvider | None) -> trace.Tracer:
    """Return Barque's tracer of this provider; of the program's own, the global one, if it is None."""
    try:
        version = importlib.metadata.version("barque")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        version = ""
    return trace.get_tracer("barque", version, tracer_provider=provider)


def warn_once(doing: str, error: BaseException) -> None:
    """Log that tracing failed, once for each thing it does: it costs neither a job nor a log full of it."""
    if doing not in _warned:
        _warned.add(doing)
        log.warning("tracing_failed", doing=doing, error=f"{type(error).__name__}: {error}")
