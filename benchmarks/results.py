"""The results of one run: what is written as JSON and read again for reports, goals and plots.

Owns the form of the file and looking figures up in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.summary import Figure

__all__ = ["FORM", "Results"]

FORM = 1
"""Number of this form of the file."""


@dataclass(frozen=True)
class Results:
    """One run.

    Attributes:
        about: date, command, machine, server, source, scale.
        peers: by name: title, language, settings, and versions or why it is missing.
        samples: measure -> subject -> metric -> one sample a repetition.
        failures: measure -> subject -> what it said.
    """

    about: Mapping[str, Any]
    peers: Mapping[str, Mapping[str, Any]]
    samples: dict[str, dict[str, dict[str, list[float]]]]
    failures: dict[str, dict[str, str]]

    def add(self, measure: str, subject: str, values: Mapping[str, float]) -> None:
        """Add what one repetition gave: metric -> value."""
        of_subject = self.samples.setdefault(measure, {}).setdefault(subject, {})
        for metric, value in values.items():
            of_subject.setdefault(metric, []).append(value)

    def figure(self, measure: str, subject: str, metric: str) -> Figure | None:
        """Return a figure, or None where it was not measured."""
        samples = self.samples.get(measure, {}).get(subject, {}).get(metric)
        return Figure.of(samples) if samples else None

    def median(self, measure: str, subject: str, metric: str) -> float | None:
        """Return a median, or None where it was not measured."""
        figure = self.figure(measure, subject, metric)
        return figure.median if figure else None

    def subjects(self, measure: str) -> list[str]:
        """Return who was measured, in the order of the run."""
        return list(self.samples.get(measure, {}))

    def title(self, subject: str) -> str:
        """Return a peer's title, or the subject itself where it is no peer."""
        return str(self.peers[subject]["title"]) if subject in self.peers else subject

    def write(self, path: Path) -> None:
        """Write the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "form": FORM,
            "about": self.about,
            "peers": self.peers,
            "samples": self.samples,
            "failures": self.failures,
        }
        path.write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a file.

        Raises:
            ValueError: it is of another form.
        """
        content = json.loads(path.read_text())
        if content.get("form") != FORM:
            raise ValueError(f"{path} is of form {content.get('form')!r}; this reads form {FORM}")
        return cls(content["about"], content["peers"], content["samples"], content["failures"])
