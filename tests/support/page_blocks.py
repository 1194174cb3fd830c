"""The blocks of code on README.md, CONTRIBUTING.md and the pages of docs/: where they stand, in which language.

Owns the reading of Markdown. What a block of a language must hold to is for the tests that ask.
"""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

__all__ = ["PAGES", "ROOT", "Block", "Span", "blocks", "spans"]

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

_MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        page: its page, relative to the repository.
        line: the line of its first line of code, from 1.
        language: as its fence says; "" if it says none, and for an indented block.
        file: the name of the file it is, where the paragraph before it says so: `my_tasks.py`.
    """

    page: str
    line: int
    language: str
    code: str = field(repr=False)
    file: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Span:
    """One piece of code within a sentence."""

    page: str
    line: int
    code: str


@cache
def blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages, in these languages if any are given."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        lines = text.splitlines()
        for token in _MARKDOWN.parse(text):
            if token.type in {"fence", "code_block"} and token.map is not None:
                first = token.map[0] + (1 if token.type == "fence" else 0)
                language = token.info.partition(" ")[0]
                name = page.relative_to(ROOT).as_posix()
                found.append(Block(name, first + 1, language, token.content, _file(lines[: token.map[0]])))
    return [block for block in found if not languages or block.language in languages]


@cache
def spans() -> list[Span]:
    """Return the code within the sentences and tables of all pages; its line is that of the paragraph's first."""
    return [
        Span(page.relative_to(ROOT).as_posix(), (token.map or [0])[0] + 1, child.content)
        for page in PAGES
        for token in _MARKDOWN.parse(page.read_text("utf-8"))
        for child in token.children or []
        if child.type == "code_inline"
    ]


def _file(before: list[str]) -> str | None:
    paragraph = "\n".join(before).rstrip().rpartition("\n\n")[2]
    named = re.search(r"`([\w-]+\.(?:ini|json|py|sh|toml|txt|ya?ml))`", paragraph)
    return named[1] if named else None
