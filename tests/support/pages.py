"""Pages of docs/ as something to follow: the files they show, the commands they give, and what those print.

Owns what counts as the same print: times, dates and ids differ from run to run, so that they are taken for equal, and
`…` stands for anything. How a page is read is page_blocks.py's.
"""

import re
from dataclasses import dataclass

from tests.support.page_blocks import blocks

__all__ = ["Command", "agrees", "commands", "programs"]

# In this order: a date has times in it, an id has numbers in it.
_PASSING = [
    (re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d:\d\d(?:\.\d+)?)?"), "<moment>"),
    (re.compile(r"\d\d:\d\d:\d\d"), "<moment>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\b[\w-]+-\d+-[0-9a-f]{6}\b"), "<worker>"),
    (re.compile(r"redis://127\.0\.0\.1:\d+/\d+"), "<server>"),
    (re.compile(r"\b(?:\d+(?:\.\d+)? ?(?:us|ms|s|m|h|d)\b ?)+"), "<time> "),
]


@dataclass(frozen=True)
class Command:
    """One command of a page, and what stands below it."""

    page: str
    line: str
    printed: str


def programs(page: str) -> dict[str, str]:
    """Return the files that a page shows, by name; of two of one name the later."""
    return {block.file: block.code for block in blocks("python") if block.page == page and block.file}


def commands(page: str) -> list[Command]:
    """Return the commands of a page's sessions, in order."""
    found: list[Command] = []
    for block in blocks("console"):
        if block.page != page:
            continue
        for line in block.code.splitlines():
            if line.startswith("$ "):
                found.append(Command(page, line[2:], ""))
            else:
                last = found.pop()
                found.append(Command(page, last.line, f"{last.printed}{line}\n"))
    return found


def agrees(shown: str, printed: str) -> bool:
    """Tell whether what a page shows is what was printed, but for what differs each time."""
    pattern = ".*".join(re.escape(part.strip()) for part in _steady(shown).split("…"))
    return re.fullmatch(pattern, _steady(printed)) is not None


def _steady(text: str) -> str:
    for passing, name in _PASSING:
        text = passing.sub(name, text)
    return " ".join(text.split())
