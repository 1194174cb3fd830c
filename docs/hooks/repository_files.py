"""Links that leave docs/ (to examples/, deploy/, CONTRIBUTING.md) lead to pages of the site that show what they mean.

On the repository's own pages such a link shows the file; here there is no address to send a reader to, and the site is
to work where there is no network. So each file or folder that a page links to, and each that those link to, becomes a
page under repository/: Markdown as it is, a folder as a list, anything else as code. A link whose text is the name of a
page's file, which reads well in the repository, has the page's title here. Owns these pages and the rewriting of links;
which of the pages stand in `nav`, mkdocs.yml says.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.structure.files import File

_SHOWN_AT_MOST = 60_000  # bytes; a longer file is no page to read, and is given as it is
_LANGUAGES = {
    ".py": "python", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".sh": "sh", ".toml": "toml", ".lua": "lua",
}  # fmt: skip
_HIDDEN = re.compile(r"__pycache__|\..*")

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s]+)(?=\))")
_FILE_NAME = re.compile(r"(?<=\[)(?:[\w./-]+/)?[\w-]+\.md(?=\]\((?!\w+:)([^)#\s]+))")
_CODE = re.compile(r"^(?P<fence> *(?:```|~~~)).*?^(?P=fence) *$|`[^`\n]+`", re.MULTILINE | re.DOTALL)

_shown: dict[str, Path] = {}
"""What is shown where: the file or folder by the name of its page."""


def page_of(path: Path, docs: Path) -> str:
    """Return the name of the page (`src_uri`) at which a file or folder of the repository is shown."""
    if path.is_relative_to(docs):
        return path.relative_to(docs).as_posix()
    # MkDocs leaves out what begins with a dot.
    name = re.sub(r"(?<![^/])\.", "", path.relative_to(docs.parent).as_posix())
    if path.is_dir():
        return f"repository/{name}/index.md"
    return f"repository/{name}" if path.suffix == ".md" or _is_long(path) else f"repository/{name}.md"


def on_files(files: Any, *, config: Any) -> Any:
    """Add a page for each file or folder outside docs/ that a page, or `nav`, leads to."""
    docs = Path(config.docs_dir)
    _shown.clear()
    waiting = [
        target
        for file in files.documentation_pages()
        if file.abs_src_path is not None
        for target in _targets(Path(file.abs_src_path), docs)
    ]
    waiting += [docs.parent / name for name in _outside(config.nav)]
    while waiting:
        path = waiting.pop()
        name = page_of(path, docs)
        if path.is_relative_to(docs) or name in _shown:
            continue
        _shown[name] = path
        if _is_long(path):
            files.append(File.generated(config, name, abs_src_path=str(path)))
            continue
        files.append(File.generated(config, name, content=_content(path)))
        waiting += _inside(path) if path.is_dir() else _targets(path, docs) if path.suffix == ".md" else ()
    icon = docs.parent / "dashboard/static/icon.svg"
    files.append(File.generated(config, "assets/icon.svg", abs_src_path=str(icon)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Have each link of a page name what it leads to as the site has it."""
    docs = Path(config.docs_dir)
    source = _shown.get(page.file.src_uri, docs / page.file.src_uri)
    here = os.path.dirname(page.file.src_uri)  # noqa: PTH120 - a name of a page, not of a file

    def as_the_site_has_it(found: re.Match[str]) -> str:
        path = _target(source, found[1])
        if path is None or (source.is_relative_to(docs) and path.is_relative_to(docs)):
            return found[1]
        if (name := page_of(path, docs)) not in _shown and not path.is_relative_to(docs):
            return found[1]
        fragment = urlsplit(found[1]).fragment
        return os.path.relpath(name, here or ".") + (f"#{fragment}" if fragment else "")

    def by_its_title(found: re.Match[str]) -> str:
        path = _target(source, found[1])
        return _title(path) if path is not None else found[0]

    return "".join(
        part if is_code else _LINK.sub(as_the_site_has_it, _FILE_NAME.sub(by_its_title, part))
        for part, is_code in _parts(markdown)
    )


def _title(page: Path) -> str:
    return page.read_text("utf-8").partition("\n")[0].removeprefix("# ")


def _is_long(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > _SHOWN_AT_MOST


def _parts(markdown: str) -> Iterator[tuple[str, bool]]:
    """Yield the text in parts, each with whether it is code."""
    end = 0
    for code in _CODE.finditer(markdown):
        yield markdown[end : code.start()], False
        yield code[0], True
        end = code.end()
    yield markdown[end:], False


def _outside(nav: list[Any]) -> Iterator[str]:
    for entry in nav or []:
        if isinstance(entry, dict):
            (value,) = entry.values()
            yield from _outside(value if isinstance(value, list) else [value])
        elif entry.startswith("repository/"):
            name = entry.removeprefix("repository/")
            yield name.removesuffix("/index.md")


def _targets(page: Path, docs: Path) -> Iterator[Path]:
    """Yield what a page links to, of what is outside docs/ and there. What is not there the strict build tells of."""
    for part, is_code in _parts(page.read_text("utf-8")):
        for found in [] if is_code else _LINK.finditer(part):
            target = _target(page, found[1])
            if target is not None and target.is_relative_to(docs.parent) and not target.is_relative_to(docs):
                yield target


def _target(page: Path, link: str) -> Path | None:
    name = urlsplit(link).path
    base = page if page.is_dir() else page.parent
    path = (base / name).resolve() if name else None
    return path if path is not None and path.exists() else None


def _inside(folder: Path) -> list[Path]:
    entries = [path for path in folder.iterdir() if not _HIDDEN.fullmatch(path.name)]
    return sorted(entries, key=lambda path: (path.is_file(), path.name))


def _line(entry: Path) -> str:
    """Return the line of a folder's page about one entry, with what a module says of itself in its first line."""
    said = ast.get_docstring(ast.parse(entry.read_text("utf-8"))) if entry.suffix == ".py" else None
    about = f": {said.splitlines()[0]}" if said else ""
    return f"- [{entry.name}{'/' if entry.is_dir() else ''}]({entry.name}){about}\n"


def _content(path: Path) -> str:
    title = f"# {path.name}{'/' if path.is_dir() else ''}\n\n"
    if path.is_dir():
        return title + "".join(_line(entry) for entry in _inside(path))
    if path.suffix == ".md":
        return path.read_text("utf-8")
    text = path.read_text("utf-8")
    fence = "````" if "```" in text else "```"
    return f"{title}{fence}{_LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"
