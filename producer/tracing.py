"""OpenTelemetry spans of enqueues, by the semantic conventions for messaging.

Owns the span around a call that enqueues: its name, attributes and end. Its context is what the jobs carry
(common/trace_context.py); their attempts' spans are workers/tracing.py's. Nothing here fails an enqueue.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from common.codec import Extras
from common.redis.address import connection_options, sentinels
from common.settings import Settings
from common.tasks import Call
from common.trace_context import TraceContext, tracer_of, warn_once
from producer.job import Job
from producer.options import EnqueueOptions

__all__ = ["EnqueueSpans"]


class EnqueueSpans:
    """Gives each enqueue a span: `Producer(tracing=EnqueueSpans(tracer_provider=…))`.

    `enqueue` has one span a job; `enqueue_many`, and what is made of it (`gather`, `map`, `as_completed`), one for
    the call, whose context all its jobs carry.

    Args:
        tracer_provider: instead of the program's own, the global one.
        baggage: let OpenTelemetry's baggage travel too.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None, *, baggage: bool = False) -> None:
        self._tracer = tracer_of(tracer_provider)
        self._context = TraceContext(baggage=baggage)
        self._servers: dict[int, dict[str, Any]] = {}

    def carry(self, extras: Extras) -> None:
        """Put the current trace context into a job's extras."""
        try:
            extras.trace = self._context.carried()
        except Exception as error:
            warn_once("carrying a context", error)

    def sending(
        self, calls: Sequence[Call[Any]], options: EnqueueOptions, settings: Settings, *, one: bool = False
    ) -> Sending:
        """Return a span, to be entered, around what enqueues these calls.

        Args:
            one: this is no batch, even if a batch may have one job.
        """
        try:
            return Sending(self._begun(calls, options, settings, one=one))
        except Exception as error:
            warn_once("beginning the span of an enqueue", error)
            return Sending(None)

    def _begun(self, calls: Sequence[Call[Any]], options: EnqueueOptions, settings: Settings, *, one: bool) -> Span:
        queues = {_queue_of(call, options) or settings.queues[0] for call in calls}
        attributes: dict[str, Any] = {
            "messaging.system": "barque",
            "messaging.operation.type": "send",
            "messaging.operation.name": "send",
            **self._server(settings),
        }
        name = "send"
        if len(queues) == 1:
            (queue,) = queues
            name = f"send {queue}"
            attributes["messaging.destination.name"] = queue
        names = {call.name for call in calls}
        if len(names) == 1:
            attributes["barque.task"] = names.pop()
        if not one:
            attributes["messaging.batch.message_count"] = len(calls)
        return self._tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes)

    def _server(self, settings: Settings) -> dict[str, Any]:
        """Return where the server is, as attributes; looked up once for each producer's settings."""
        found = self._servers.get(id(settings))
        if found is None:
            found = self._servers[id(settings)] = {}
            options = connection_options(settings)
            if sentinels(settings) is None:
                if "path" in options:
                    found["server.address"] = options["path"]
                else:
                    found["server.address"] = options.get("host", "localhost")
                    found["server.port"] = options.get("port", 6379)
        return found


class Sending:
    """The span of one call that enqueues: current while it is entered, ended after it."""

    def __init__(self, span: Span | None) -> None:
        self._span = span
        self._token: Any = None

    def __enter__(self) -> Self:
        if self._span is not None:
            self._token = otel_context.attach(trace.set_span_in_context(self._span))
        return self

    def sent(self, jobs: Sequence[Job[Any]]) -> None:
        """Note what became of it."""
        span = self._span
        if span is None or not span.is_recording():
            return
        try:
            if len(jobs) == 1:
                span.set_attribute("messaging.message.id", jobs[0].job_id)
            queues = {job.queue for job in jobs}
            if len(queues) == 1:  # a hook may have changed it
                (queue,) = queues
                span.set_attribute("messaging.destination.name", queue)
                span.update_name(f"send {queue}")
            already_there = sum(not job.is_new for job in jobs)
            if already_there:
                span.set_attribute("barque.already_there", already_there)
        except Exception as error:
            warn_once("ending the span of an enqueue", error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        span = self._span
        if span is None:
            return
        try:
            otel_context.detach(self._token)
            if error is not None and kind is not None:
                span.record_exception(error)
                span.set_attribute("error.type", f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."))
                span.set_status(Status(StatusCode.ERROR, f"{kind.__qualname__}: {error}"))
            span.end()
        except Exception as broken:
            warn_once("ending the span of an enqueue", broken)


def _queue_of(call: Call[Any], options: EnqueueOptions) -> str | None:
    return options.queue or (call.task.options.queue if call.task is not None else None)
