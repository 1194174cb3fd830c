"""Priorities of jobs: which there are, and how they are given.

What a priority does is in the job's score (common/redis/scores.py).
"""

from __future__ import annotations

from typing import Any, Literal

from common.errors import ConfigurationError

__all__ = ["MOST_URGENT", "Priority", "read_priority"]

MOST_URGENT = 9

Priority = int | Literal["normal", "high", "urgent", "critical"]
"""From 0, which is normal, to 9; or a word for some of these."""

_WORDS = {"normal": 0, "high": 3, "urgent": 6, "critical": 9}


def read_priority(option: str, value: Any) -> int | None:
    """Return a priority as its number; None where none is given.

    Args:
        option: what it was given as, for the message.

    Raises:
        ConfigurationError: there is none of this number or name.
    """
    if value is None:
        return None
    number = _WORDS.get(value) if isinstance(value, str) else value
    if type(number) is not int or not 0 <= number <= MOST_URGENT:
        words = ", ".join(f"{word} ({number})" for word, number in _WORDS.items())
        raise ConfigurationError(
            f"{option}={value!r}: give a whole number from 0 to {MOST_URGENT}, or one of {words}. What is to run after "
            "all else has a queue of its own"
        )
    return number
