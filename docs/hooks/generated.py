"""The parts of pages that the code itself tells: `<!-- generated: commands -->` and its like.

Owns which marker stands for what; each subject has its own module beside this one. Everything is made from what runs
(the command line's own definitions, the OpenAPI document, the scripts' headers), so that a page
cannot tell of something else.
"""

from __future__ import annotations

import re
from typing import Any

from command_reference import commands
from http_reference import http_api, openapi
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from script_reference import scripts

_MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_PARTS = {
    "commands": commands,
    "http_api": http_api,
    "scripts": scripts,
}


def on_files(files: Any, *, config: Any) -> Any:
    """Add the OpenAPI document itself, for those who make a client from it."""
    files.append(File.generated(config, "reference/openapi.json", content=openapi()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put what is made in place of its marker."""

    def part(found: re.Match[str]) -> str:
        if found[1] not in _PARTS:
            raise PluginError(f"{page.file.src_uri}: nothing generated is called {found[1]}; there are {[*_PARTS]}")
        return _PARTS[found[1]]()

    return _MARKER.sub(part, markdown)
