"""Every command of `barque` with its arguments and options, from the definitions that run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from cli.main import app

_EXAMPLES = "Examples:"


def commands() -> str:
    """Return the reference of all commands, one heading each."""
    every = _each("barque", typer.main.get_command(app))
    return "\n\n".join(part for name, command in every for part in _told(name, command))


def _each(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, inner in getattr(command, "commands", {}).items():
        yield from _each(f"{name} {word}", inner)


def _told(name: str, command: Any) -> Iterator[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    yield f"## {name}"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{name} {usage}\n```"
    yield from _paragraphs(command.help or "")
    if inner := getattr(command, "commands", {}):
        yield "\n".join(
            f"- [`{name} {word}`](#{name.replace(' ', '-')}-{word}): {_first(each.help)}"
            for word, each in inner.items()
        )
    rows = []
    for parameter in command.params:
        record = None if getattr(parameter, "hidden", False) else parameter.get_help_record(context)
        if record is not None:
            spelt, about = record
            rows.append(f"| {_code(spelt)} | {_cell(_escaped(about))} |")
    if rows:
        yield "\n".join(["| Argument or option | |", "|---|---|", *rows])


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        if not paragraph.startswith("\b"):
            yield _escaped(paragraph)
            continue
        title, *lines = paragraph.removeprefix("\b").strip("\n").splitlines()
        body = "\n".join(line.removeprefix("  ") for line in lines)
        yield f"{_escaped(title)}\n\n```{'sh' if title.strip() == _EXAMPLES else 'text'}\n{body}\n```"


def _first(text: str | None) -> str:
    return _escaped((text or "").split("\n\n")[0].split(". ")[0].rstrip(".")) + "."


def _code(text: str) -> str:
    return ", ".join(f"`{part.strip()}`" for part in text.replace("|", "\\|").split(", "))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _escaped(text: str) -> str:
    """Return help as Markdown: Rich's marks taken out, and what HTML or Markdown would take for its own escaped."""
    text = re.sub(r"\[/?(?:bold|dim|italic|green|red|yellow)\]", "", text)
    return re.sub(r"([<>*_])", r"\\\1", text)
