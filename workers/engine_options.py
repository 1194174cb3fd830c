"""How one worker process behaves: what the engine is told at its start. Data, without behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.redis.store import FIRST_FIRST, Order
from common.settings import Settings

__all__ = ["EngineOptions"]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How one worker process behaves.

    Attributes:
        worker: this worker's id.
        queues: served in this order, or as `order` says.
        concurrency: jobs at once.
        limits: the settings that bound jobs and what they leave behind; what arq's Worker takes is not read of them.
        most_burst_jobs: in burst, the most jobs to start; negative is no limit.
        honour_aborts: end jobs that someone asks to abort.
    """

    worker: str
    queues: Sequence[str]
    concurrency: int
    lease_ms: int
    poll_delay: float
    limits: Settings
    order: Order = FIRST_FIRST
    burst: bool = False
    most_burst_jobs: int = -1
    honour_aborts: bool = True
