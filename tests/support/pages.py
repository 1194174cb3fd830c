"""Pages of docs/ as something to follow: the files they show, the commands they give, and what those print.

Commands and programs run in the test's own process, each in a thread, for starting Python takes longer than they do.

Owns what counts as the same print: times, dates and ids differ from run to run, so that they are taken for equal, and
`…` stands for anything. How a page is read is page_blocks.py's.
"""

import asyncio
import contextlib
import io
import re
import runpy
import shlex
from dataclasses import dataclass

from cli.main import main as barque
from tests.support.page_blocks import blocks

__all__ = ["Command", "agrees", "commands", "follow", "programs", "run"]

# In this order: a date has times in it, an id has numbers in it.
_PASSING = [
    (re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d:\d\d(?:\.\d+)?)?"), "<moment>"),
    (re.compile(r"\d\d:\d\d:\d\d"), "<moment>"),
    (re.compile(r"\b0[0-9A-Za-z]{19}\b"), "<id>"),
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


async def follow(command: Command) -> None:
    """Give a command; hold what it prints, on stdout or on both, against what its page shows."""
    printed = await asyncio.to_thread(run, command.line)
    assert any(agrees(command.printed, each) for each in printed), (
        f"{command.page} shows of `{command.line}`:\n{command.printed}\nand it printed:\n{printed[1]}"
    )


def run(line: str) -> tuple[str, str]:
    """Run a command as a shell would, in this thread; return what it printed, and that with what was on stderr."""
    program, *arguments = shlex.split(line)
    out, both = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(_Tee(out, both)), contextlib.redirect_stderr(both):
        if program == "barque":
            with contextlib.suppress(SystemExit):
                barque(arguments)
        else:
            assert program == "python", line
            runpy.run_path(arguments[0], run_name="__main__")
    return out.getvalue(), both.getvalue()


class _Tee(io.StringIO):
    def __init__(self, *others: io.StringIO) -> None:
        super().__init__()
        self.others = others

    def write(self, text: str) -> int:
        for other in self.others:
            other.write(text)
        return len(text)
