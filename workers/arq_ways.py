"""What the executor must know of arq without importing it: its hooks, its exceptions, its words.

Owns data only; workers/worker.py fills the hooks in, `ways_of_arq` the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from arq.jobs import DeserializationError
from arq.utils import ms_to_datetime
from arq.worker import JobExecutionFailed, RetryJob
from arq.worker import Retry as ArqRetry

__all__ = ["ArqWays", "Hook", "Hooks", "ways_of_arq"]

Hook = Callable[[dict[Any, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Hooks:
    """arq's hooks around an attempt; each receives the attempt's context dict."""

    on_job_start: Hook | None = None
    on_job_end: Hook | None = None
    after_job_end: Hook | None = None


@dataclass(frozen=True, slots=True)
class ArqWays:
    """The parts of arq the executor must know without importing it.

    Attributes:
        retry: arq's Retry, with `defer_score` in ms.
        rerun: other exceptions after which arq runs a job again.
        failure: makes the exception arq reports for a job it could not run.
        undecodable: makes the exception arq reports for a payload it could not decode.
        moment: turns Unix ms into the datetime arq shows, in the time zone its environment asks for.
        retry_jobs: arq's option of that name; False makes every retry a failure.
    """

    retry: type[BaseException]
    rerun: tuple[type[BaseException], ...]
    failure: Callable[[str], Exception]
    undecodable: Callable[[str], Exception]
    moment: Callable[[int], datetime]
    retry_jobs: bool = True


def ways_of_arq(*, retry_jobs: bool) -> ArqWays:
    """Return the ways of the arq that is installed."""
    return ArqWays(
        retry=ArqRetry,
        rerun=(asyncio.CancelledError, RetryJob),
        failure=JobExecutionFailed,
        undecodable=DeserializationError,
        moment=ms_to_datetime,
        retry_jobs=retry_jobs,
    )
