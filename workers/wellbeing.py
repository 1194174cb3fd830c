"""Whether a worker is well: alive, and ready; and if not, why, in words that say what to do.

Owns what the two mean. How it is asked and answered is watching.py's (over HTTP) and reports.py's (in Redis). Reads
what the worker's parts know of themselves, from any thread, and asks nobody.

    alive   a restart would not help: false only where the event loop has stood still past BARQUE_BLOCK_LIMIT
    ready   it takes jobs: false with a reason for each thing that keeps it from that
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from workers.claimer import Claimer
    from workers.executor import Executor
    from workers.heartbeat import Heartbeat
    from workers.leases import LeaseKeeper
    from workers.pauses import Pauses

__all__ = ["REASONS", "Condition", "Reason", "Reasons", "Wellbeing", "blocked", "still_limit"]

Reason = Literal["starting", "stopping", "server_away", "fenced", "loop_blocked", "paused"]

REASONS: tuple[Reason, ...] = get_args(Reason)

Reasons = dict[Reason, str]

_STILL = 5.0
"""Seconds after which a worker whose event loop stands still is not ready; half its limit, where that is less."""


@dataclass(frozen=True, slots=True)
class Wellbeing:
    """How a worker is.

    Attributes:
        alive: its event loop turns, or may yet turn again.
        reasons: why it is not ready, in words.
        about: what else there is to say: a flat map of plain data.
    """

    alive: bool
    reasons: Reasons
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether it takes jobs."""
        return self.alive and not self.reasons


class Condition:
    """What the parts of a running worker say of how it is.

    Args:
        queues: those it serves.
    """

    def __init__(
        self,
        *,
        queues: Sequence[str],
        claimer: Claimer,
        executor: Executor,
        heartbeat: Heartbeat,
        leases: LeaseKeeper,
        pauses: Pauses,
    ) -> None:
        self._queues = queues
        self._claimer = claimer
        self._executor = executor
        self._heartbeat = heartbeat
        self._leases = leases
        self._pauses = pauses

    def reasons(self) -> Reasons:
        """Return why it takes no jobs; nothing where it does. A loop that stands still is not among them."""
        if not self._claimer.accepting:
            running = self._executor.running
            return {"stopping": f"it claims no more jobs, and ends once those that run have ended: {running} now"}
        found: Reasons = {}
        fenced = self._leases.fenced
        if fenced:
            found["fenced"] = fenced
        trouble = self._claimer.trouble or self._heartbeat.trouble
        if trouble:
            found["server_away"] = (
                f"Redis does not answer it, or refuses it ({trouble}); it asks again by itself, and a restart would "
                "not help. Its log says more"
            )
        elif not self._claimer.server_answers:
            found["starting"] = "it has asked for jobs, and waits for the server's first answer"
        paused = self._pauses.of_queues()
        if paused and len(paused) == len(self._queues):
            names = ", ".join(f"{pause.name} (by {pause.by or 'somebody'})" for pause in paused)
            found["paused"] = f"all of its queues are paused: {names}; `barque resume --queue NAME` lets one go on"
        return found

    def about(self) -> dict[str, Any]:
        """Return what else there is to say."""
        return {
            "claiming": self._claimer.claiming,
            "server_answers": self._claimer.server_answers,
            "running": self._executor.running,
            "paused_queues": [pause.name for pause in self._pauses.of_queues()],
        }


def still_limit(block_limit: float) -> float:
    """Return after how many seconds of standing still a worker is not ready; it is alive for longer."""
    return min(_STILL, block_limit / 2)


def blocked(still: float, block_limit: float) -> str:
    """Return what is said of an event loop that has stood still for so many seconds."""
    if still >= block_limit:
        return (
            f"its event loop has stood still for {still:.1f} s, past BARQUE_BLOCK_LIMIT ({block_limit:g} s): its jobs "
            "have been left to others. Restart it; the line event_loop_blocked in its log names the task"
        )
    return (
        f"its event loop has stood still for {still:.1f} s: a task blocks it, and the line event_loop_blocked in its "
        "log names which"
    )
