"""Those who observe attempts: around each one as middleware, and told when its outcome is recorded.

Owns the shape of an observer, which ones the settings ask for, and the attempt's line with what they add to it. What
each does with what it sees is its own: tracing.py, log_context.py. A worker without any has none of this in the way of
a job.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import msgspec
import structlog

from common.errors import ConfigurationError
from common.middleware import Middleware
from common.settings import Settings
from workers.attempt import Attempt, Outcome
from workers.attempt_log import AttemptLine, AttemptLog

__all__ = ["BatchFunction", "ObservedLog", "Observer", "note", "noted", "observers_by"]

N = TypeVar("N")

BatchFunction = Callable[..., Coroutine[Any, Any, Any]]
"""A batch task's function: takes a BatchContext and the items. An observer that has a method
`around_batch(function: BatchFunction) -> BatchFunction` is around each run of it, too."""

log = structlog.get_logger("barque.observers")


@runtime_checkable
class Observer(Middleware, Protocol):
    """A middleware that is told, too, how each attempt ended.

    Attributes:
        line_fields: names of what `ended` may return, known from the start.
    """

    line_fields: tuple[str, ...]

    def ended(self, outcome: Outcome) -> Mapping[str, Any]:
        """Take note of an outcome that is recorded, also of an attempt it was never around; return what its line says.

        Nobody is told of what was held back or passed on, and so never began.
        """
        ...


def note(attempt: Attempt, observer: object, noted: Any) -> None:
    """Keep something of an attempt until its outcome is recorded."""
    try:
        attempt.notes[observer] = noted
    except AttributeError:
        attempt.notes = {observer: noted}


def noted(attempt: Attempt, observer: object, kind: type[N]) -> N | None:
    """Return what an observer has kept of an attempt; None where it has seen nothing of it."""
    found = getattr(attempt, "notes", {}).get(observer)
    return found if isinstance(found, kind) else None


class ObservedLog(AttemptLog):
    """Tells observers of each outcome, then writes its line with what they add to it."""

    def __init__(self, worker: str, observers: Sequence[Observer]) -> None:
        super().__init__(worker)
        self._observers = observers
        names = dict.fromkeys(name for observer in observers for name in observer.line_fields)
        self._names = [name for name in names if name not in AttemptLine.__struct_fields__]
        more: list[tuple[str, Any, Any]] = [(name, Any, None) for name in self._names]
        kind = msgspec.defstruct("ObservedLine", more, bases=(AttemptLine,), omit_defaults=True, gc=False, kw_only=True)
        self._kind = cast("type[AttemptLine]", kind)

    def _line(self, outcome: Outcome, now: str) -> AttemptLine:
        added: dict[str, Any] = {}
        for observer in self._observers:
            try:
                added |= observer.ended(outcome)
            except Exception as error:  # the outcome is recorded, and its line is to be written
                log.exception("observer_failed", observer=type(observer).__qualname__, error=type(error).__name__)
        line = super()._line(outcome, now)
        if not added:
            return line
        known = {name: added[name] for name in self._names if name in added}
        return self._kind(**msgspec.structs.asdict(line) | known)


def _sentry_by(settings: Settings, given: Sequence[Middleware]) -> list[Middleware]:
    """Return what reports to Sentry, where a DSN is set, or the program has set up the SDK itself."""
    sdk = sys.modules.get("sentry_sdk")
    if not settings.sentry or (settings.sentry_dsn is None and (sdk is None or not sdk.is_initialized())):
        return []
    try:
        from workers.sentry import SentryErrors, set_up  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"BARQUE_SENTRY_DSN: {error.name} is not installed; pip install 'barque[sentry]', or take the setting away"
        ) from None
    if settings.sentry_dsn is not None:
        set_up(settings.sentry_dsn.get_secret_value(), arguments=settings.sentry_arguments)
    if any(isinstance(one, SentryErrors) for one in given):
        return []
    return [SentryErrors(retries=settings.sentry_retries, arguments=settings.sentry_arguments)]


def observers_by(settings: Settings, given: Sequence[Middleware]) -> list[Middleware]:
    """Return those that the settings ask for, outermost first; none that was given by code.

    Raises:
        ConfigurationError: what one needs is not installed.
    """
    found: list[Middleware] = []
    if settings.log_context:
        from workers.log_context import CarriedLog  # noqa: PLC0415 - for those who use it

        found.append(CarriedLog(settings.log_context))
    if settings.traces:
        try:
            from workers.tracing import AttemptSpans, say_if_nobody_exports  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"BARQUE_TRACES: {error.name} is not installed; pip install 'barque[opentelemetry]', or take the "
                "setting away"
            ) from None
        if not any(isinstance(one, AttemptSpans) for one in given):
            say_if_nobody_exports()
            found.append(AttemptSpans(parent=settings.trace_parent, baggage=settings.trace_baggage))
    return [*found, *_sentry_by(settings, given)]
