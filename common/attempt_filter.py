"""Which attempts somebody wants to see of the many that end. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from common.worker_reports import EndedAttempt

__all__ = ["AttemptFilter"]


@dataclass(frozen=True, slots=True)
class AttemptFilter:
    """What an attempt has to be to be shown; what is left empty fits all.

    Attributes:
        tasks, queues, workers: names, or patterns such as `fetch_*`; one of them has to fit.
        outcomes: words of common.jobs.OutcomeKind.
        slower_than_ms: it ran for so long at least.
    """

    tasks: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    outcomes: frozenset[str] = frozenset()
    slower_than_ms: float = 0.0

    def fits(self, attempt: EndedAttempt) -> bool:
        """Tell whether an attempt is one of these."""
        return (
            attempt.run_ms >= self.slower_than_ms
            and (not self.outcomes or attempt.outcome in self.outcomes)
            and _any(self.tasks, attempt.task)
            and _any(self.queues, attempt.queue)
            and _any(self.workers, attempt.worker)
        )


def _any(patterns: tuple[str, ...], name: str) -> bool:
    return not patterns or any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)
