"""What `barque dead` prints, for people and for programs. Asks nothing itself."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from cli.attempts_view import attempts_document, timeline
from cli.output import fields, listing, machine, note, show, styled, to_jsonable, visible
from cli.words import ago, call, compact, moment
from common.dead_letters import DeadLetter
from producer.dead import DeadPage

__all__ = ["hex_lines", "show_list", "show_one"]

_REASONS = {
    "failed": "its last attempt failed, or its error is not retried",
    "timed_out": "its last attempt ran past its timeout",
    "deadline": "its deadline passed before it had ended",
    "lost": "its worker was lost in its last attempt: killed, out of memory, or cut off",
    "undecodable": "its payload cannot be decoded, or is not signed as it must be",
    "not_found": "no worker that knows its task came in time (BARQUE_UNKNOWN_TASK_WAIT)",
    "arguments": "its arguments are not what the task takes",
    "expired": "it was to be started no more by then",
}

_FIRST_BYTES = 16
_LONGEST_ERROR = 160


def show_list(page: DeadPage, total: int, *, filtered: bool, as_json: bool) -> None:
    """Print some letters, one a line.

    Args:
        total: letters there are on the server.
        filtered: not all of them were asked for.
    """
    if as_json:
        letters = [_document(letter, arguments=False, lists=True) for letter in page.letters]
        machine({"letters": letters, "next": page.next})
        return
    if not page.letters:
        fits = f"Of {total:,} dead letters none fits." if filtered and total else "There are no dead letters."
        show(styled(fits))
        return
    now = datetime.now(UTC)
    table = listing(("Job", 8), ("Task", 4), ("Tries", 5), ("Failed", 7), ("Error", 20))
    for letter in page.letters:
        table.add_row(
            styled(letter.job_id),
            styled(letter.task or "?", "" if letter.task else "yellow"),
            styled(letter.attempts),
            styled(ago(letter.died_at, now)),
            styled(_short(letter), "red"),
        )
    show(table)
    if page.next is not None:
        note(f"{len(page.letters):,} of {total:,} shown; the next ones: --after {page.next}")


def show_one(letter: DeadLetter, *, arguments: bool, as_json: bool) -> None:
    """Print all there is of one letter."""
    if as_json:
        machine(_document(letter, arguments=arguments, lists=False))
        return
    now = datetime.now(UTC)
    error = f"{_class(letter)}: {letter.error.message}" if letter.error.message else _class(letter)
    rows: list[tuple[str, object]] = [
        ("task", letter.task),
        ("queue", letter.queue),
        ("reason", f"{letter.reason}: {why}" if (why := _REASONS.get(letter.reason)) else letter.reason),
        ("error", error),
        ("attempts", letter.attempts),
        ("worker", letter.worker),
        ("enqueued", moment(letter.enqueued_at)),
        ("started", moment(letter.started_at)),
        ("failed", f"{moment(letter.died_at)}, {ago(letter.died_at, now)}"),
        ("kept until", moment(letter.expires_at)),
        *_content(letter, arguments=arguments),
    ]
    show(
        styled(f"Dead letter of job {letter.job_id}", "bold"),
        fields([row for row in rows if row[1] is not None], styles={"error": "red", "reason": "yellow"}),
        *(timeline(letter.history, letter.history_dropped) if len(letter.history) > 1 else ()),
    )
    if letter.error.traceback:
        show(Text(""), Text(visible(letter.error.traceback.rstrip())))
    note(f"barque dead replay {letter.job_id} runs it again; barque dead delete forgets it.")


def hex_lines(raw: bytes) -> str:
    """Return bytes as hex, sixteen a line: where they are, what they are, and what of them is ASCII."""
    lines = []
    for start in range(0, len(raw), 16):
        part = raw[start : start + 16]
        readable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:06x}  {part.hex(' ', -4):<35}  {readable}")
    return "\n".join(lines)


def _content(letter: DeadLetter, *, arguments: bool) -> list[tuple[str, object]]:
    """Return what is said of the payload: arguments only if they were asked for."""
    raw = letter.payload or b""
    size = f"{len(raw):,} bytes"
    if letter.unreadable is not None:
        shown = raw if arguments else raw[:_FIRST_BYTES]
        rows: list[tuple[str, object]] = [("payload", f"{size}; cannot be read here: {letter.unreadable}")]
        rows.append(("hex", hex_lines(shown)))
        return rows if len(shown) == len(raw) else [*rows, ("", "--arguments shows all of it")]
    if not arguments:
        return [("payload", f"{size}; --arguments shows what is in it")]
    meta = compact(letter.metadata) if letter.metadata else None
    return [
        ("payload", size),
        ("call", call(letter.task, letter.arguments, letter.keyword_arguments)),
        ("metadata", meta),
    ]


def _document(letter: DeadLetter, *, arguments: bool, lists: bool) -> dict[str, Any]:
    """Return the letter for a program; arguments only if asked for, bytes that cannot be read as hex."""
    named = {field.name: getattr(letter, field.name) for field in dataclasses.fields(letter)}
    error, payload = letter.error, named.pop("payload")
    named["error"] = {"type": error.type, "message": error.message}
    if lists:
        left_out = {"unreadable", "arguments", "keyword_arguments", "metadata", "history", "history_dropped"}
    else:
        left_out = set() if arguments else {"arguments", "keyword_arguments", "metadata"}
        named["error"]["traceback"] = error.traceback
        named["history"] = attempts_document(letter.history, logs=False)
        named["payload_bytes"] = len(payload or b"")
        if letter.unreadable is not None:
            named["payload_hex"] = (payload or b"")[: None if arguments else _FIRST_BYTES].hex()
    document: dict[str, Any] = to_jsonable({k: v for k, v in named.items() if k not in left_out}).value
    return document


def _class(letter: DeadLetter) -> str:
    return letter.error.type.removeprefix("builtins.") or letter.reason


def _short(letter: DeadLetter) -> str:
    """Return the error in one short line, its class without the module."""
    name = _class(letter).rpartition(".")[2]
    first = letter.error.message.strip().partition("\n")[0]
    text = f"{name}: {first}" if first else name
    return text if len(text) <= _LONGEST_ERROR else f"{text[: _LONGEST_ERROR - 1]}…"
