"""Barque: its default worker, with everything on that a default worker has."""

import sys
from pathlib import Path

from benchmarks.adapters.base import Program, PythonPeer
from benchmarks.environments import PEERS, ROOT, OwnEnvironment


class Barque(PythonPeer):
    @property
    def environment(self) -> OwnEnvironment:
        return OwnEnvironment(self.name)

    def variables(self) -> dict[str, str]:
        own = super().variables()
        return own | {
            "PYTHONPATH": f"{own['PYTHONPATH']}:{ROOT}",
            "BARQUE_TASKS": "app",
            "BARQUE_LOG_FORMAT": "json",
            "BARQUE_LOG_FILE": "barque.log",
        }

    def worker(self, at_once: int) -> Program:
        settings = {"BARQUE_CONCURRENCY": str(at_once)}
        return Program([self.environment.program("arq"), "workers.WorkerSettings"], self.variables() | settings)

    def script(self, name: str, *arguments: str) -> Program:
        """Return one of the programs that only Barque has: the floor, the idle workers."""
        file = Path(PEERS) / self.name / f"{name}.py"
        return Program([sys.executable, str(file), *arguments], self.variables())


ADAPTER = Barque(
    name="barque",
    title="Barque",
    settings="`arq workers.WorkerSettings`: a JSON line per attempt to a file, results kept an hour, leases and "
    "renewal, timeouts, annotated arguments checked; uvloop and hiredis, as always",
    drain_rate=40_000,
    enqueue_rate=100_000,
    versions_of=("arq", "redis", "hiredis", "uvloop", "msgspec", "structlog"),
)
