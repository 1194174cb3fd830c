"""What the harness asks of a peer: how its worker and its enqueuing side are started, and how it is set.

Owns the `Adapter` protocol and the three kinds of peers by language. The programs themselves stand in
benchmarks/peers/<name>/; where they are installed is environments.py's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.environments import PEERS, Environment, NodeEnvironment, PythonEnvironment, RubyEnvironment

__all__ = ["Adapter", "NodePeer", "Program", "PythonPeer", "RubyPeer"]


@dataclass(frozen=True)
class Program:
    """A process to start.

    Attributes:
        argv: the program and its arguments.
        env: variables besides those that the harness sets for all.
    """

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)


class Adapter(Protocol):
    """One peer.

    Attributes:
        name: its folder under benchmarks/peers/, and its name on the command line.
        title: its name in tables and plots.
        language: "python", "node" or "ruby".
        settings: what was set, and why, for the report.
        drain_rate: jobs a second it is known to run, roughly; sizes a run, so that no peer takes minutes.
        enqueue_rate: jobs a second it is known to enqueue, roughly.
        keeps_results: whether a caller can wait for a result.
        in_goals: whether a goal is about it, or could be.
        versions_of: the packages whose versions the report names.
    """

    name: str
    title: str
    language: str
    settings: str
    drain_rate: int
    enqueue_rate: int
    keeps_results: bool
    in_goals: bool
    versions_of: tuple[str, ...]

    @property
    def environment(self) -> Environment:
        """Where it is installed."""
        ...

    def at_once(self, wanted: int) -> int:
        """Return how many jobs at once it is set to, when so many are wanted: the nearest it has."""
        ...

    def worker(self, at_once: int) -> Program:
        """Return its worker: one process that runs jobs."""
        ...

    def client(self) -> Program:
        """Return its enqueuing side, which speaks what peers/shared/driver.py describes."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Peer:
    name: str
    title: str
    settings: str
    drain_rate: int
    enqueue_rate: int
    keeps_results: bool = True
    in_goals: bool = True
    versions_of: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its programs stand."""
        return PEERS / self.name

    def at_once(self, wanted: int) -> int:
        """Return as many as are wanted."""
        return wanted


class PythonPeer(_Peer):
    """A peer in Python, in an environment of its own."""

    language = "python"

    @property
    def environment(self) -> PythonEnvironment:
        """Its virtual environment."""
        return PythonEnvironment(self.name, self.folder / "requirements.txt")

    def client(self) -> Program:
        """Return the driver that all Python peers share."""
        return Program([self.environment.program("python"), str(PEERS / "shared" / "driver.py")], self.variables())

    def variables(self) -> dict[str, str]:
        """Return what makes the peer's own modules and the shared ones importable."""
        return {"PYTHONPATH": f"{PEERS / 'shared'}:{self.folder}", "PYTHONDONTWRITEBYTECODE": "1"}

    def program(self, script: str, *arguments: str) -> Program:
        """Return a command that its environment brings."""
        return Program([self.environment.program(script), *arguments], self.variables())


class NodePeer(_Peer):
    """A peer on Node, installed by npm; its programs run from the environment's folder, as ESM wants it."""

    language = "node"

    @property
    def environment(self) -> NodeEnvironment:
        """Its folder with node_modules."""
        return NodeEnvironment(self.name, self.folder)

    def worker(self, at_once: int) -> Program:  # noqa: ARG002 - it reads BENCH_CONCURRENCY
        """Return worker.mjs."""
        return Program(["node", str(self.environment.folder / "worker.mjs")])

    def client(self) -> Program:
        """Return driver.mjs."""
        return Program(["node", str(self.environment.folder / "driver.mjs")])


class RubyPeer(_Peer):
    """A peer in Ruby, from the system's packages."""

    language = "ruby"

    @property
    def environment(self) -> RubyEnvironment:
        """The system's own."""
        return RubyEnvironment(self.name)

    def client(self) -> Program:
        """Return driver.rb."""
        return Program(["ruby", str(self.folder / "driver.rb")])
