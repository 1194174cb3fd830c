"""The attempts of one job as a timeline, drawn to scale: when it waited, when it ran, how each attempt ended.

Pure, and knows no HTML: templates/job.html draws what is made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from common.attempts import RUNNING, AttemptInfo
from common.jobs import JobInfo
from dashboard.pages.words import age

__all__ = ["WIDTH", "Bar", "Timeline", "draw_timeline"]

WIDTH = 1000
"""Of the box the attempts are drawn into, in its own units."""

_NARROWEST = 4.0
"""Units: an attempt of a millisecond in a job of an hour is to be seen."""


class Bar(NamedTuple):
    """One attempt, drawn. `tone` is a class of the style sheet."""

    x: float
    width: float
    tone: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The attempts of a job whose times are known.

    Attributes:
        start, end: the moments at its ends.
        length: from one to the other, in words.
        said: the timeline in a sentence, for who cannot see it.
    """

    bars: Sequence[Bar]
    start: datetime
    end: datetime
    length: str
    said: str


def draw_timeline(info: JobInfo, now: datetime) -> Timeline | None:
    """Return the attempts of a job from its enqueue, as far as that is known, to its end, or to now.

    None where there is nothing to draw: no time of an attempt is known.
    """
    spans = [(each, span) for each in info.attempts if (span := _span(each, now)) is not None]
    if not spans:
        return None
    start = min([begun for _, (begun, _) in spans] + ([info.enqueued_at] if info.enqueued_at else []))
    end = max([ended for _, (_, ended) in spans] + ([] if info.state.ended else [now]))
    whole = max((end - start).total_seconds(), 0.001)
    bars = []
    for attempt, (begun, ended) in spans:
        width = max(_NARROWEST, (ended - begun).total_seconds() / whole * WIDTH)
        x = min((begun - start).total_seconds() / whole * WIDTH, WIDTH - width)
        bars.append(Bar(round(x, 1), round(width, 1), attempt.outcome))
    told = ", ".join(f"attempt {each.number} {each.outcome.replace('_', ' ')}" for each in info.attempts)
    length = age(whole)
    return Timeline(bars, start, end, length, f"Within {length}: {told}.")


def _span(attempt: AttemptInfo, now: datetime) -> tuple[datetime, datetime] | None:
    """Return from when to when an attempt ran; of a lost one only its end is known."""
    ended = now if attempt.outcome == RUNNING else attempt.finished_at
    if attempt.started_at is not None:
        return attempt.started_at, max(attempt.started_at, ended or attempt.started_at)
    return None if ended is None or attempt.outcome == RUNNING else (ended, ended)
