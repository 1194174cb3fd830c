"""Report to Sentry the errors that end jobs, and each attempt as a transaction where the SDK traces.

Owns what is reported, and with what: tags that tell the job, never its arguments unless asked. Which SDK there is, is
the program's: one that it has set up, or one set up here by `BARQUE_SENTRY_DSN`. Nothing here fails a job.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import sentry_sdk
import structlog
from sentry_sdk.integrations.arq import ArqIntegration
from sentry_sdk.integrations.logging import ignore_logger
from sentry_sdk.integrations.redis import RedisIntegration
from sentry_sdk.scope import Scope, use_isolation_scope, use_scope
from sentry_sdk.tracing_utils import has_tracing_enabled
from sentry_sdk.types import Event, Hint
from sentry_sdk.utils import BadDsn, event_from_exception

from common.errors import ConfigurationError, Discard, Retry, Snooze
from common.jobs import OutcomeKind, RemoteError
from common.middleware import AttemptCall, Proceed
from workers.attempt import Attempt, Outcome
from workers.observers import note, noted

__all__ = ["SentryErrors", "set_up"]

log = structlog.get_logger("barque.sentry")

_FINAL = {OutcomeKind.FAILED, OutcomeKind.TIMED_OUT}
_LONGEST_ARGUMENT = 1000
_MOST_CAUSES = 10


class SentryErrors:
    """Middleware that reports the error of a job that has failed for good.

    It is there by itself where the program has called `sentry_sdk.init()`, or `BARQUE_SENTRY_DSN` is set;
    `Worker(functions, middleware=[SentryErrors(retries=True)])` puts one of other ways in its place.

    Args:
        retries: report, as warnings, also errors of attempts that another one follows.
        arguments: report the job's arguments, and the local variables of each frame. They may be secrets.
    """

    line_fields: tuple[str, ...] = ()

    def __init__(self, *, retries: bool = False, arguments: bool = False) -> None:
        self._retries = retries
        self._arguments = arguments
        ignore_logger("barque.attempt")  # in a program with its own logging each line would be reported again

    async def __call__(self, attempt: AttemptCall, proceed: Proceed) -> Any:
        """Go on with the attempt in a scope of its own, and keep what it raises until its outcome is recorded."""
        seen = self._entered(attempt)
        if seen is None:
            return await proceed()
        try:
            return await proceed()
        except BaseException as error:
            seen.error = error
            raise
        finally:
            seen.leave()

    def ended(self, outcome: Outcome) -> Mapping[str, Any]:
        """Report the error of an outcome that is recorded, if it is one to report."""
        attempt = outcome.attempt
        seen = noted(attempt, self, _Seen)
        error = outcome.error
        if error is None or not self._is_to_be_reported(outcome):
            _forget(seen)
            return {}
        try:
            self._report(outcome, error, seen)
        except Exception as broken:
            _say_failed("reporting an error", broken)
        _forget(seen)
        return {}

    def _is_to_be_reported(self, outcome: Outcome) -> bool:
        if outcome.retry_in_ms is not None or outcome.kind is OutcomeKind.RETRIED:
            return self._retries and outcome.kind is not OutcomeKind.SNOOZED
        return outcome.kind in _FINAL

    def _entered(self, call: AttemptCall) -> _Seen | None:
        attempt = call.ctx.lifetime
        if not isinstance(attempt, Attempt):  # a test of somebody's own, without a worker
            return None
        try:
            seen = _Seen(attempt, call.ctx.task)
        except Exception as broken:
            _say_failed("beginning an attempt", broken)
            return None
        if self._arguments:
            seen.arguments = {
                **{str(number): _shown(value) for number, value in enumerate(call.args)},
                **{name: _shown(value) for name, value in call.kwargs.items()},
            }
        note(attempt, self, seen)
        return seen

    def _report(self, outcome: Outcome, error: RemoteError, seen: _Seen | None) -> None:
        event, hint = self._event(error, None if seen is None else seen.error)
        attempt = outcome.attempt
        event["level"] = "error" if outcome.retry_in_ms is None else "warning"
        event["contexts"] = {
            "job": {
                "outcome": outcome.kind.value,
                "max_attempts": attempt.max_attempts,
                "queued_ms": attempt.queued_ms,
                "run_ms": round(outcome.run_seconds * 1000, 3),
                **({"reason": outcome.reason} if outcome.reason else {}),
            }
        }
        if seen is not None and seen.arguments:
            event["contexts"]["arguments"] = seen.arguments
        if seen is not None:
            with use_isolation_scope(seen.isolation), use_scope(seen.scope):
                seen.scope.span = seen.transaction  # it has ended, and the error is a part of it
                sentry_sdk.capture_event(event, hint)
            return
        with sentry_sdk.isolation_scope() as scope:
            _tell(scope, attempt, attempt.task_name)
            sentry_sdk.capture_event(event, hint)

    def _event(self, error: RemoteError, raised: BaseException | None) -> tuple[Event, Hint]:
        """Return the error as Sentry has it: with its frames, and the words that the outcome has for it."""
        module, _, name = error.type.rpartition(".")
        words = {"type": name, "value": error.message, "module": None if module == "builtins" else module}
        if raised is None:
            return {"exception": {"values": [words]}}, {}
        found = _of_type(raised, error.type)
        options = sentry_sdk.get_client().options
        if not self._arguments:
            options = {**options, "include_local_variables": False}
        event, hint = event_from_exception(
            found or raised, client_options=options, mechanism={"type": "barque", "handled": False}
        )
        if found is None:  # the attempt was stopped, and its CancelledError tells where: the outcome says why
            event["exception"]["values"][-1].update(words)
        if error.traceback and getattr(raised, "_barque_traceback", None):  # it has no frames in this process
            event["extra"] = {"traceback": error.traceback}
        return event, hint


class _Seen:
    """An attempt's scope and transaction, and what it raised.

    Attributes:
        isolation, scope: Sentry's two; what the task sets on them is reported with its error.
        transaction: None where the SDK does not trace.
        error: what the attempt raised, frames and all, until its outcome is recorded.
        arguments: in words; empty unless asked for.
    """

    def __init__(self, attempt: Attempt, task: str) -> None:
        self.error: BaseException | None = None
        self.arguments: dict[str, object] = {}
        self._entered = contextlib.ExitStack()
        try:
            self.isolation: Scope = self._entered.enter_context(sentry_sdk.isolation_scope())
            self.scope = sentry_sdk.get_current_scope()
            _tell(self.isolation, attempt, task)
            self.transaction: Any = None
            if has_tracing_enabled(sentry_sdk.get_client().options):
                self.transaction = self._entered.enter_context(
                    sentry_sdk.start_transaction(op="queue.process", name=task, source="task")
                )
                self.transaction.set_data("messaging.message.id", attempt.job_id)
                self.transaction.set_data("messaging.destination.name", attempt.queue)
                self.transaction.set_data("messaging.message.retry.count", attempt.number - 1)
                self.transaction.set_data("messaging.message.receive.latency", attempt.queued_ms)
        except BaseException:
            self._entered.close()
            raise

    def leave(self) -> None:
        """End the transaction, and go back to the scopes of before."""
        try:
            if self.transaction is not None:
                self.transaction.set_status(_status(self.error))
            self._entered.close()
        except Exception as broken:
            _say_failed("ending an attempt", broken)


def set_up(dsn: str, *, arguments: bool) -> None:
    """Set up Sentry's SDK for this worker, unless the program has done so itself.

    Raises:
        ConfigurationError: it is no DSN.
    """
    if sentry_sdk.is_initialized():
        return
    try:
        sentry_sdk.init(
            dsn=dsn,
            include_local_variables=arguments,
            # They would make arq functions of tasks, and a breadcrumb of each of the worker's own round trips.
            disabled_integrations=[ArqIntegration(), RedisIntegration()],
        )
    except BadDsn:
        # Its own text quotes the DSN, which has a key in it.
        raise ConfigurationError("BARQUE_SENTRY_DSN: this is no DSN: give https://KEY@HOST/PROJECT") from None


def _tell(scope: Scope, attempt: Attempt, task: str) -> None:
    tags = {"task": task, "job_id": attempt.job_id, "attempt": attempt.number, "queue": attempt.queue}
    for name, value in tags.items():
        scope.set_tag(name, value)


def _of_type(raised: BaseException, kind: str) -> BaseException | None:
    """Return the exception that the outcome names: what was raised, or what that was raised from."""
    found: BaseException | None = raised
    for _ in range(_MOST_CAUSES):
        if found is None:
            return None
        if f"{type(found).__module__}.{type(found).__qualname__}" == kind:
            return found
        found = found.__cause__
    return None


def _status(error: BaseException | None) -> str:
    if error is None or isinstance(error, Snooze | Discard):
        return "ok"
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return "aborted" if isinstance(error, Retry) else "internal_error"


def _shown(value: object) -> str:
    try:
        return repr(value)[:_LONGEST_ARGUMENT]
    except Exception as error:
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def _forget(seen: _Seen | None) -> None:
    if seen is not None:
        seen.error = None  # with its frames it holds the attempt, and that holds it


_said: set[str] = set()


def _say_failed(doing: str, error: Exception) -> None:
    if doing not in _said:
        _said.add(doing)
        log.warning("sentry_failed", doing=doing, error=f"{type(error).__name__}: {error}")
