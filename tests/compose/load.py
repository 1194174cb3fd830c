"""Jobs that flow while something happens to a stack, and the judgement on what they came to.

The client that enqueues them runs in a container of the stack (in_containers/load_client.py); this is the other end of
it. It promises nothing by itself: a part says which containers may have left jobs to be run again.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field

from tests.compose.stack import Failed, Stack, docker, say, wait_for

__all__ = ["Load", "Outcomes"]


@dataclass
class Outcomes:
    """What became of the jobs of one load.

    Attributes:
        not_answered: enqueues that were sent again, since the server was away.
        wrong: number of the job -> what became of it instead of its result.
        ended_at: container's host name -> jobs that ended there.
        again: number of the job -> for each time it began: where, the attempt, and its last word there.
    """

    enqueued: int
    succeeded: int
    not_answered: int
    begun: int
    wrong: dict[str, str] = field(default_factory=dict)
    ended_at: dict[str, int] = field(default_factory=dict)
    again: dict[str, list[tuple[str, int, str]]] = field(default_factory=dict)

    def check(self, *, at_least: int, lost_with: Collection[str] | None = ()) -> None:
        """Hold that each job came to its result, and which ones began twice.

        Args:
            at_least: jobs there must have been, for this to show anything.
            lost_with: host names of containers that were killed: jobs may have begun again that had begun there, and
                had not ended. None: any may have.
        """
        if self.wrong or not self.succeeded == self.enqueued == self.begun:
            raise Failed(
                f"{self.enqueued} jobs were enqueued, {self.begun} began, {self.succeeded} succeeded; "
                f"of the rest: {dict(list(self.wrong.items())[:5])}"
            )
        if self.enqueued < at_least:
            raise Failed(f"only {self.enqueued} jobs were enqueued: that shows nothing")
        if lost_with is not None:
            for number, times in self.again.items():
                for host, attempt, word in times[:-1]:
                    if host not in lost_with or word == "ended":
                        raise Failed(f"job {number} began again though attempt {attempt} on {host} {word}: {times}")
        retold = f"; {self.not_answered} enqueues were sent again" if self.not_answered else ""
        where = f"on {len(self.ended_at)} workers"
        say(f"{self.enqueued} jobs, each with its result, {where}; {len(self.again)} began again{retold}")


class Load:
    """Jobs enqueued one after the other until `finish`."""

    _count = 0

    def __init__(self, stack: Stack, *, rate: float = 25, seconds: float = 0.4, most: int | None = None) -> None:
        Load._count += 1
        self._name = f"{stack.name}load{Load._count}"
        words = [f"run{Load._count}", str(rate), str(seconds), *([str(most)] if most else [])]
        stack.add("demo")
        self._process = stack.start(
            "run", "--rm", "-T", "--name", self._name, "demo", "python", "/app/load_client.py", *words
        )

    def progress(self) -> dict[str, int]:
        if self._process.poll() is not None:
            raise Failed(f"the client of the load ended: {self._process.communicate()[1][-3000:]}")
        text = docker("exec", self._name, "cat", "/tmp/progress", check=False)
        return json.loads(text) if text else {"enqueued": 0, "ended": 0}

    def wait(self, ended: int) -> None:
        """Wait until so many more jobs have ended than have now."""
        goal = self.progress()["ended"] + ended
        wait_for(f"{ended} more jobs to end", lambda: self.progress()["ended"] >= goal)

    def wait_enqueued(self, jobs: int) -> None:
        wait_for(f"{jobs} jobs to be enqueued", lambda: self.progress()["enqueued"] >= jobs)

    def finish(self) -> Outcomes:
        """Stop enqueuing, wait for what was enqueued, and return what it came to."""
        docker("exec", self._name, "touch", "/tmp/stop", check=False)
        said, complaints = self._process.communicate(timeout=300)
        if self._process.returncode:
            raise Failed(f"the client of the load ended with {complaints[-3000:]}")
        lines = [line for line in said.splitlines() if line.startswith("{")]
        return Outcomes(**json.loads(lines[-1]))
