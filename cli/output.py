"""What reaches the two streams, and in which form: JSON for programs, text and tables for people.

Owns making values harmless: what comes out of Redis was written by somebody else, and may hold what a terminal or
rich takes for a command. Text for people is always a `rich.text.Text`, which parses no markup.
"""

from __future__ import annotations

import base64
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "Jsonable",
    "fields",
    "listing",
    "machine",
    "note",
    "show",
    "show_line",
    "styled",
    "to_jsonable",
    "visible",
    "width",
]

# C0 but tab and newline, DEL, C1, line separators, bidirectional overrides, halves of surrogate pairs.
_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(value: object) -> str:
    r"""Return the value as text in which every control character is shown (`\x1b`) instead of obeyed."""
    return _HARMFUL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))


def note(message: str) -> None:
    """Tell people something, on stderr; it may go on over several lines."""
    print(visible(message), file=sys.stderr, flush=True)


def show(*parts: RenderableType) -> None:
    """Print text and tables for people on stdout: in colour on a terminal, plain elsewhere or with NO_COLOR."""
    console = _console()
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    # rich fills the lines of a table with blanks: noise in a file, and in what one copies from a screen.
    lines = captured.get().splitlines()
    print("\n".join(line.rstrip(" ") for line in lines), flush=True)


def show_line(text: Text) -> None:
    """Print one line for people on stdout at once, however long it is: a terminal folds it, a file keeps it whole."""
    console = _console()
    with console.capture() as captured:
        console.print(text, soft_wrap=True)
    print(captured.get(), end="", flush=True)


def fields(rows: Iterable[tuple[str, object]], *, styles: Mapping[str, str] | None = None) -> RenderableType:
    """Return `name  value` lines; a long value goes on under itself, not under the name.

    Args:
        styles: the style of the value, by name.
    """
    from rich.table import Table  # noqa: PLC0415 - not for --json, not for --help
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        cell = value if isinstance(value, Text) else Text(visible(value), style=(styles or {}).get(name, ""))
        table.add_row(Text(f"  {name}"), cell)
    return table


def listing(*columns: tuple[str, int]) -> Table:
    """Return an empty table of these titles and least widths, one row a thing; what is too long for a cell folds."""
    from rich.table import Table  # noqa: PLC0415 - not for --json, not for --help

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title, least in columns:
        table.add_column(title, overflow="fold", min_width=least)
    return table


def machine(value: Any, *, indent: int | None = None) -> None:
    """Print one JSON document on stdout; on one line unless `indent` says how far to indent.

    Args:
        value: what `to_jsonable` returns for `value`, or plain data already.
    """
    # Where stdout is no UTF-8, JSON's own escapes lose nothing.
    plain = (sys.stdout.encoding or "").lower().replace("_", "-") not in {"utf-8", "utf8"}
    text = json.dumps(value, ensure_ascii=plain, indent=indent, allow_nan=False)
    print(_HARMFUL.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text), flush=True)


@dataclass(slots=True)
class Jsonable:
    """A value as JSON can hold it.

    Attributes:
        value: numbers, text, lists and dicts with text keys.
        base64_at: the paths of what was bytes and is base64 now, such as `$.body`.
    """

    value: Any
    base64_at: list[str] = field(default_factory=list)


def to_jsonable(value: Any) -> Jsonable:
    """Return a value as JSON can hold it: bytes as base64, times as ISO 8601, NaN as null, the rest as its `repr`."""
    found: list[str] = []
    return Jsonable(_plain(value, "$", found), found)


def _plain(value: Any, path: str, found: list[str]) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        found.append(path)
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, f"{path}.{_key(key)}", found) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, f"{path}[{index}]", found) for index, item in enumerate(value)]
    return value.isoformat() if hasattr(value, "isoformat") else _repr(value)


def _key(key: Any) -> str:
    if isinstance(key, bytes):
        return base64.b64encode(key).decode()
    return key if isinstance(key, str) else _repr(key)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # a user's own class, out of a pickle
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415 - not for --json, not for --help

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def width() -> int:
    """Return how many columns what is shown may take."""
    return _console().width


def styled(value: object, style: str = "") -> Text:
    """Return text for a cell, made visible."""
    from rich.text import Text  # noqa: PLC0415 - not for --json, not for --help

    return Text(visible(value), style=style)
