"""OpenTelemetry spans of attempts, by the semantic conventions for messaging.

Owns the span around an attempt: what it continues, what it says, and its end, once the outcome is recorded and so
known. The trace context in the payload is common/trace_context.py's. Nothing here fails a job.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, format_span_id, format_trace_id

from common.batches import BatchContext
from common.context import Context
from common.errors import ConfigurationError
from common.jobs import OutcomeKind, RemoteError
from common.middleware import AttemptCall, Proceed
from common.trace_context import TraceContext, tracer_of, warn_once
from workers.attempt import Attempt, Outcome
from workers.error_words import describe
from workers.observers import BatchFunction, note, noted

__all__ = ["AttemptSpans", "say_if_nobody_exports"]

log = structlog.get_logger("barque.traces")

_NEVER_BEGAN = {OutcomeKind.PASSED_ON, OutcomeKind.HELD_BACK}
_ERRORS = {OutcomeKind.FAILED, OutcomeKind.TIMED_OUT, OutcomeKind.RETRIED, OutcomeKind.LOST}
_BEFORE_IT_BEGAN = {OutcomeKind.FAILED, OutcomeKind.TIMED_OUT, OutcomeKind.CANCELLED}
"""Outcomes of attempts whose function was never called that have a span all the same: of their jobs nothing follows."""

_LONGEST_DESCRIPTION = 1000


class AttemptSpans:
    """Middleware that gives each attempt a span: `Worker(functions, middleware=[AttemptSpans(), …])`.

    Put it first: what stands before it is not in the span. Attempts of one job are spans of one trace, that of its
    enqueue; a job that carries no trace context, such as one of a stock arq producer, begins a trace with each attempt.

    Args:
        tracer_provider: instead of the program's own, the global one.
        parent: "child" makes the span a child of the enqueue's; "link" has it begin a trace of its own. Either way it
            is linked to the enqueue's.
        baggage: let baggage that came with the job be the current one.
    """

    line_fields = ("trace_id", "span_id")

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        *,
        parent: Literal["child", "link"] = "child",
        baggage: bool = False,
    ) -> None:
        if parent not in {"child", "link"}:
            raise ConfigurationError(f"AttemptSpans(parent={parent!r}): give child or link")
        self._tracer = tracer_of(tracer_provider)
        self._context = TraceContext(baggage=baggage)
        self._child = parent == "child"

    async def __call__(self, attempt: AttemptCall, proceed: Proceed) -> Any:
        """Go on with the attempt's span as the current one, its ids bound to all that is logged meanwhile."""
        begun = self._entered(attempt.ctx)
        if begun is None:
            return await proceed()
        try:
            return await proceed()
        except BaseException as error:
            begun.saw(error)
            raise
        finally:
            begun.leave()

    def ended(self, outcome: Outcome) -> Mapping[str, str]:
        """End the span of an attempt whose outcome is recorded; return its ids for the attempt's line."""
        if outcome.kind in _NEVER_BEGAN:
            return {}
        try:
            begun = noted(outcome.attempt, self, _AttemptSpan)
            if begun is None:
                if outcome.kind not in _BEFORE_IT_BEGAN:
                    return {}
                now = time.time_ns()
                begun = self._begun(outcome.attempt, started_ns=now - round(outcome.run_seconds * 1e9))
                begun.ended_ns = now
            begun.end(outcome)
        except Exception as error:
            warn_once("ending the span of an attempt", error)
            return {}
        return begun.ids

    def around_batch(self, function: BatchFunction) -> BatchFunction:
        """Return a batch task's function, run in a span of its own that links to those of its jobs."""

        async def run(ctx: BatchContext, items: Any) -> Any:
            with _BatchSpan(functools.partial(self._batch_begun, ctx)):
                return await function(ctx, items)

        return run

    def _entered(self, ctx: Context) -> _AttemptSpan | None:
        attempt = ctx.lifetime
        if not isinstance(attempt, Attempt):  # a test of somebody's own, without a worker
            return None
        try:
            begun = self._begun(attempt)
            begun.enter()
        except Exception as error:
            warn_once("beginning the span of an attempt", error)
            return None
        note(attempt, self, begun)
        return begun

    def _begun(self, attempt: Attempt, started_ns: int | None = None) -> _AttemptSpan:
        extras = None if attempt.payload is None else attempt.payload.extras
        context = self._context.read(None if extras is None else extras.trace)
        sender = trace.get_current_span(context).get_span_context()
        attributes: dict[str, Any] = _process(attempt.queue) | {
            "messaging.message.id": attempt.job_id,
            "barque.task": attempt.task_name,
            "barque.attempt": attempt.number,
            "barque.max_attempts": attempt.max_attempts,
            "barque.queued_ms": attempt.queued_ms,
        }
        if not self._child:
            context = trace.set_span_in_context(trace.INVALID_SPAN, context)
        span = self._tracer.start_span(
            f"process {attempt.queue}",
            context=context,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[Link(sender)] if sender.is_valid else None,
            start_time=started_ns,
        )
        return _AttemptSpan(span, context)

    def _batch_begun(self, ctx: BatchContext) -> Span:
        jobs = [job.lifetime for job in ctx.jobs]
        spans = [noted(job, self, _AttemptSpan) for job in jobs if isinstance(job, Attempt)]
        queue = ctx.jobs[0].queue if ctx.jobs else ""
        return self._tracer.start_span(
            f"process {queue}",
            context=otel_context.Context(),  # of none of its jobs; the one it began in is one of theirs
            kind=SpanKind.CONSUMER,
            attributes=_process(queue) | {"barque.task": ctx.task, "messaging.batch.message_count": len(ctx.jobs)},
            links=[Link(begun.span.get_span_context()) for begun in spans if begun is not None],
        )


class _AttemptSpan:
    """The span of one attempt, until its outcome is recorded.

    Attributes:
        ids: as log lines have them; empty while no SDK makes any.
        ended_ns: when the attempt's function ended: Unix nanoseconds.
    """

    def __init__(self, span: Span, context: otel_context.Context) -> None:
        self.span = span
        self.ids = ids_of(span)
        self.ended_ns: int | None = None
        self._context = context
        self._token: Any = None
        self._error: RemoteError | None = None

    def enter(self) -> None:
        """Make it the current one."""
        self._token = otel_context.attach(trace.set_span_in_context(self.span, self._context))
        structlog.contextvars.bind_contextvars(**self.ids)

    def saw(self, error: BaseException) -> None:
        """Keep what the attempt raised, in words: the exception itself would keep all its frames."""
        if self.span.is_recording():
            self._error = describe(error)

    def leave(self) -> None:
        """Be current no more."""
        self.ended_ns = time.time_ns()
        otel_context.detach(self._token)

    def end(self, outcome: Outcome) -> None:
        """Say how the attempt ended, and end with it."""
        span, at = self.span, self.ended_ns
        if span.is_recording():
            span.set_attribute("barque.outcome", outcome.kind.value)
            busy_us, _, _ = outcome.attempt.timing
            span.set_attribute("barque.busy_ms", busy_us / 1000)
            error = outcome.error
            if error is not None:
                _add_exception(span, error, self._error, at)
            if outcome.kind in _ERRORS:
                _set_error(span, outcome.kind.value if error is None else error.type, _words(outcome))
            if outcome.retry_in_ms is not None:
                event = "snooze" if outcome.kind is OutcomeKind.SNOOZED else "retry"
                more = {"barque.retry_in_ms": outcome.retry_in_ms}
                span.add_event(event, more | ({"barque.reason": outcome.reason} if outcome.reason else {}), at)
            elif outcome.reason:
                span.set_attribute("barque.reason", outcome.reason)
        span.end(at)


class _BatchSpan:
    """The span of a run of a batch task: current while it is entered."""

    def __init__(self, begin: Callable[[], Span]) -> None:
        self._begin = begin
        self._span: Span | None = None
        self._token: Any = None

    def __enter__(self) -> None:
        try:
            self._span = self._begin()
            self._token = otel_context.attach(trace.set_span_in_context(self._span, otel_context.Context()))
            structlog.contextvars.unbind_contextvars("trace_id", "span_id")
            structlog.contextvars.bind_contextvars(**ids_of(self._span))
        except Exception as error:
            warn_once("beginning the span of a batch", error)

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        span = self._span
        if span is None or self._token is None:
            return
        try:
            otel_context.detach(self._token)
            if error is not None and span.is_recording():
                words = describe(error)
                _add_exception(span, words, words, None)
                _set_error(span, words.type, f"{words.type}: {words.message}")
            span.end()
        except Exception as broken:
            warn_once("ending the span of a batch", broken)


def say_if_nobody_exports() -> None:
    """Log that spans go nowhere, where the program has set up no OpenTelemetry SDK by the time its worker starts."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        log.warning(
            "traces_go_nowhere",
            advice="no OpenTelemetry SDK is set up: start it with opentelemetry-instrument, or call "
            "trace.set_tracer_provider(…) in a module of BARQUE_TASKS",
        )


def ids_of(span: Span) -> dict[str, str]:
    """Return the ids of a span, as log lines have them; none of one that no SDK has made."""
    context = span.get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}


def _process(queue: str) -> dict[str, Any]:
    return {
        "messaging.system": "barque",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": queue,
    }


def _add_exception(span: Span, error: RemoteError, seen: RemoteError | None, at: int | None) -> None:
    """Add an exception as the conventions have it; that of a timeout has the traceback of where it stood."""
    traceback = error.traceback or (seen.traceback if seen is not None else "")
    kind = error.type.removeprefix("builtins.")
    attributes = {"exception.type": kind, "exception.message": error.message, "exception.stacktrace": traceback}
    span.add_event("exception", {name: value for name, value in attributes.items() if value}, at)


def _set_error(span: Span, kind: str, words: str) -> None:
    span.set_attribute("error.type", kind.removeprefix("builtins."))
    span.set_status(Status(StatusCode.ERROR, words.removeprefix("builtins.")[:_LONGEST_DESCRIPTION]))


def _words(outcome: Outcome) -> str:
    if outcome.error is not None:
        return f"{outcome.error.type}: {outcome.error.message}"
    return "the lease was lost: another attempt has the job" if outcome.kind is OutcomeKind.LOST else outcome.kind.value
