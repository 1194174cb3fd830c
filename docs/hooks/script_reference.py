"""What each Lua script says of itself: purpose, keys, arguments, what it returns, what holds."""

from __future__ import annotations

import re
from importlib import resources

_FOLDER = resources.files("common.redis") / "lua"
_TITLE = re.compile(r"^(\w+): ", re.MULTILINE)


def scripts() -> str:
    """Return the headers of all scripts, in the order of their names, and then of what stands in front of them."""
    files = sorted(path.name.removesuffix(".lua") for path in _FOLDER.iterdir() if path.name.endswith(".lua"))
    files.sort(key=lambda name: name.endswith("prelude"))
    return "\n\n".join(f"## {name}.lua\n\n{_header(name)}" for name in files)


def _header(name: str) -> str:
    lines = []
    for line in (_FOLDER / f"{name}.lua").read_text("utf-8").splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").removeprefix(" "))
    return "```text\n" + "\n".join(lines).strip() + "\n```"
