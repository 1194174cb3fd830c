"""The processes under test: started as a person would, killed, frozen, stopped, and ended whatever happens.

Owns their life and their environment. A process outlives neither its `Process` nor this one, even if this one is
killed: a shell that holds the end of a pipe sees to that, as for the embedded server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.chaos.driver.ledger import FOLDER, LABEL

__all__ = ["SKEWED", "Process", "arq_command", "module_command"]

ROOT = Path(__file__).parents[3]

SKEWED = Path(__file__).with_name("skewed")
"""On a process's path, this folder gives it a wrong clock."""

_WATCH = 'read -r line && exit 0; kill -KILL "$1" 2>/dev/null'


class Process:
    """One process.

    Args:
        label: what it is called in ledgers, logs and verdicts; no other process of the folder has had it.
        folder: where its ledger and its output go.
        skew: seconds its wall clock is wrong by.
    """

    def __init__(
        self, label: str, command: Sequence[str], *, folder: Path, settings: Mapping[str, str], skew: float = 0.0
    ) -> None:
        self.label = label
        self._output = folder / f"{label}.out"
        self._asked_to_end = False
        path = [str(SKEWED), str(ROOT)] if skew else [str(ROOT)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
        environment |= {FOLDER: str(folder), LABEL: label, "PYTHONPATH": os.pathsep.join(path), "CHAOS_SKEW": str(skew)}
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=environment | dict(settings),
                start_new_session=True,  # Ctrl-C is for us to act on, in order
            )
        try:
            self._watcher = subprocess.Popen(
                ["/bin/sh", "-c", _WATCH, "sh", str(self._process.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise

    def __repr__(self) -> str:
        return f"<{self.label}, process {self.pid}>"

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, minus a signal's number if one killed it; None while it runs."""
        return self._process.poll()

    @property
    def died(self) -> bool:
        """Whether it ended though nobody asked it to."""
        return not self._asked_to_end and self.exit_code is not None

    def kill(self) -> None:
        """End it as a power cut would, and wait until it is gone."""
        self._asked_to_end = True
        self._process.kill()
        self._process.wait()

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self._asked_to_end = True
        self._process.terminate()

    def end_input(self) -> None:
        """Close its standard input: the word for a producer to stop."""
        self._asked_to_end = True
        assert self._process.stdin is not None
        self._process.stdin.close()

    def freeze(self) -> None:
        """Stop it in mid-air, as a suspended machine is."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it if it still runs, and forget it; may be called twice."""
        self._asked_to_end = True
        self._process.kill()
        self._process.communicate()
        if self._watcher.returncode is None:
            self._watcher.communicate(b"done\n")

    def last_words(self) -> str:
        """Return the end of what it wrote to its standard streams."""
        lines = self._output.read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-12:])


def arq_command(*arguments: str) -> list[str]:
    """Return the command line of this environment's own `arq`, whatever PATH says."""
    script = Path(sys.executable).with_name("arq")
    program = [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-m", "arq"]
    return [*program, *arguments]


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command line of one of our own modules."""
    return [sys.executable, "-m", module, *arguments]
