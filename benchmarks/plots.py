"""The plots of a run: starts plots' own environment, where matplotlib is, on the results file.

The drawing itself is drawing.py's.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.environments import PEERS, ROOT, PythonEnvironment

__all__ = ["draw"]


def draw(results: Path, folder: Path, form: str = "svg") -> list[str]:
    """Draw the plots of a results file into a folder; return their paths.

    Raises:
        Missing: matplotlib cannot be installed.
        subprocess.CalledProcessError: the drawing failed.
    """
    environment = PythonEnvironment("plots", PEERS / "plots" / "requirements.txt")
    environment.make()
    folder.mkdir(parents=True, exist_ok=True)
    run = [
        environment.program("python"),
        "-m",
        "benchmarks.drawing",
        *map(str, (results.absolute(), folder.absolute(), form)),
    ]
    done = subprocess.run(run, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()
