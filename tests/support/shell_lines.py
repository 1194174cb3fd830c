"""Blocks of shell as a shell would read them: simple commands, each with its words and the variables set for it.

Enough of a shell for what a page shows: quotes, comments, continued lines, here-documents, pipes and lists,
redirections. Substitutions stay as they are.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Command", "commands"]

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_OPERATORS = re.compile(r"[;|&()]+")
_REDIRECTION = re.compile(r"[<>]+&?")
_HERE = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
_RESERVED = {"!", "{", "}", "do", "done", "else", "fi", "if", "then", "until", "while"}


@dataclass(frozen=True)
class Command:
    """One simple command; its words are empty where variables are set and nothing is run.

    Attributes:
        line: which of the block's it begins at, from 0.
    """

    line: int
    words: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]


def commands(code: str, *, session: bool) -> Iterator[Command]:
    """Yield the commands of a block.

    Args:
        session: only what follows a `$ ` was typed; a line after it that begins with `> ` goes on with it.

    Raises:
        ValueError: a quote has no end.
    """
    lines = code.splitlines()
    number = 0
    while number < len(lines):
        begun, line = number, lines[number]
        number += 1
        if session:
            if not line.startswith("$ "):
                continue
            line = line[2:]
        while _goes_on(line):
            if number == len(lines):
                raise ValueError(f"no end of: {line}")
            line = f"{line.removesuffix(chr(92))}\n{lines[number].removeprefix('> ') if session else lines[number]}"
            number += 1
        if here := _HERE.search(line):
            while number < len(lines) and lines[number].strip() != here[1]:
                number += 1
            number += 1
        yield from _simple(line, begun)


def _goes_on(line: str) -> bool:
    if line.endswith("\\"):
        return True
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return True
    return False


def _simple(line: str, number: int) -> Iterator[Command]:
    lexer = shlex.shlex(line.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if skip:
            skip = False
        elif _REDIRECTION.fullmatch(word):
            if words and words[-1].isdigit():
                words.pop()
            skip = True
        elif not _OPERATORS.fullmatch(word):
            words.append(word)
        elif words:
            yield _command(words, number)
            words = []


def _command(words: list[str], number: int) -> Command:
    variables = []
    while words and (words[0] in _RESERVED or (set_here := _ASSIGNMENT.fullmatch(words[0]))):
        if words[0] not in _RESERVED and set_here:
            variables.append((set_here[1], set_here[2]))
        words = words[1:]
    return Command(number, tuple(words), tuple(variables))
