"""What `nav` in mkdocs.yml may say besides names of pages: `folder/*`, and `../FILE` for one outside docs/.

Owns the order of pages; what is on those from outside is repository_files.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from repository_files import page_of

Entry = Any  # a name, a section or a titled page, as YAML has them


def on_config(config: Any) -> Any:
    """Write out the wildcards, and drop the sections and pages that are not there yet."""
    docs = Path(config.docs_dir)
    config.nav = list(_written_out(config.nav, docs, set(_names(config.nav))))
    return config


def _names(nav: list[Entry]) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            (value,) = entry.values()
            yield from _names(value) if isinstance(value, list) else [value]


def _written_out(nav: list[Entry], docs: Path, named: set[str]) -> Iterator[Entry]:
    for entry in nav:
        if isinstance(entry, dict):
            ((title, value),) = entry.items()
            if isinstance(value, list):
                if inner := list(_written_out(value, docs, named)):
                    yield {title: inner}
            else:
                yield {title: _name(value, docs)}
        elif entry.endswith("/*"):
            pages = sorted(path.relative_to(docs).as_posix() for path in docs.glob(f"{entry}.md"))
            yield from (page for page in pages if page not in named)
        else:
            yield _name(entry, docs)


def _name(entry: str, docs: Path) -> str:
    return page_of((docs / entry).resolve(), docs) if entry.startswith("../") else entry
