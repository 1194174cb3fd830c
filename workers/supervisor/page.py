"""The one page of all processes of a supervisor: /metrics, /livez, /readyz, as a single worker has them.

Owns what is said of all together. How figures are added up is sums.py's; what a process says of itself is
workers/wellbeing.py's and workers/metrics_page.py's.

    /livez     503 where the supervisor itself stands still. A process that hangs it replaces: no restart would help
    /readyz    200 while each of the processes takes jobs, or has begun to leave with its successor in its place
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from workers.page_server import METRICS, Answer
from workers.supervisor.children import Place
from workers.supervisor.fleet import Fleet
from workers.supervisor.messages import Family
from workers.supervisor.processes import Processes
from workers.supervisor.sums import gauge, text
from workers.wellbeing import REASONS

__all__ = ["Page"]

_PROBES = {"/livez", "/healthz", "/readyz"}

_ANSWERS_WITHIN = 2.0
"""Seconds for the processes to say what they have counted."""

_STILL = 30.0
"""Seconds after which a supervisor that has not looked at anything stands still. It looks every second."""

_OUR_OWN = {"barque_ready", "barque_not_ready"}


class Page:
    """Answers for all processes. Called from threads; only reads.

    Args:
        turned: when the supervisor last looked at things, by time.monotonic.
    """

    def __init__(self, fleet: Fleet, processes: Processes, turned: Callable[[], float]) -> None:
        self._fleet = fleet
        self._processes = processes
        self._turned = turned

    def answer(self, path: str) -> Answer | None:
        """Return the page of this path; None where there is none."""
        if path == "/metrics":
            return Answer(200, METRICS, self._metrics())
        if path not in _PROBES:
            return None
        said = self._document()
        well = said["ready"] if path == "/readyz" else said["alive"]
        return Answer(200 if well else 503, "application/json", json.dumps(said).encode() + b"\n")

    def _document(self) -> dict[str, Any]:
        processes = [self._one(place) for place in self._fleet.places if not place.done]
        reasons: dict[str, str] = {}
        for one in processes:
            for reason, why in one["reasons"].items():
                reasons[reason] = "; ".join(filter(None, [reasons.get(reason), f"process {one['process']}: {why}"]))
        if self._fleet.stopping:
            reasons = {"stopping": "it was told to stop, and ends once its processes have ended"}
        alive = time.monotonic() - self._turned() < _STILL
        return {
            "alive": alive,
            "ready": alive and not reasons,
            "reasons": reasons,
            "worker": f"{os.uname().nodename}-{os.getpid()}",
            "pid": os.getpid(),
            "leaving": len(self._fleet.leaving),
            "processes": processes,
        }

    def _one(self, place: Place) -> dict[str, Any]:
        child = place.current
        process = None if child is None else self._processes.by_pid.get(child.pid)
        about: dict[str, Any] = {"process": place.number, "worker": f"process {place.number}", "pid": None}
        if child is None or process is None:
            why = f"its process ended ({place.last}), and another one is started" if place.last else "it is started"
            return about | {"alive": True, "ready": False, "reasons": {"starting": why}}
        about |= {"worker": process.name, "pid": child.pid}
        state = process.state
        if state is None:
            return about | {"alive": True, "ready": False, "reasons": {"starting": "it imports its tasks"}}
        return about | {
            "alive": state.alive,
            "ready": state.alive and not state.reasons,
            "reasons": state.reasons,
            "running": state.running,
            "memory": state.memory,
        }

    def _metrics(self) -> bytes:
        counted = self._processes.totals(_ANSWERS_WITHIN).families()
        return text([*(family for family in counted if family.name not in _OUR_OWN), *self._of_processes()])

    def _of_processes(self) -> list[Family]:
        said = self._document()
        ready = sum(one["ready"] for one in said["processes"])
        states = {"ready": ready, "not_ready": len(said["processes"]) - ready, "leaving": said["leaving"]}
        memory = [({"process": str(one["process"])}, one["memory"]) for one in said["processes"] if "memory" in one]
        deaths, kills = self._fleet.deaths, self._fleet.kills
        return [
            gauge("barque_ready", "Whether all processes take jobs, as /readyz says", ({}, float(said["ready"]))),
            gauge(
                "barque_not_ready",
                "What keeps some process from taking jobs; /readyz says it in words",
                *(({"reason": str(reason)}, float(reason in said["reasons"])) for reason in REASONS),
            ),
            gauge(
                "barque_worker_processes",
                "Processes of this supervisor; leaving: those that let their last jobs end",
                *(({"state": state}, float(count)) for state, count in states.items()),
            ),
            gauge("barque_worker_process_memory_bytes", "Memory that a process has in use", *memory),
            _counter("barque_worker_process_deaths", "Processes that ended by themselves; see their logs", deaths),
            _counter("barque_worker_process_kills", "Processes that hung, or did not stop in time: ended so", kills),
        ]


def _counter(name: str, told: str, value: float) -> Family:
    return Family(name, "counter", told, [(f"{name}_total", {}, float(value))])
