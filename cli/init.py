"""`barque init`: write the files of a small project that runs.

Owns where they go and that none is overwritten. What is in them stands in starter/, as it is written.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json
from cli.output import machine, note

__all__ = ["init"]

_FILES = {
    "tasks.py": "tasks.py",
    "enqueue.py": "enqueue.py",
    "test_tasks.py": "test_tasks.py",
    "README.md": "README.md",
    "Dockerfile": "Dockerfile",
    "docker-compose.yml": "docker-compose.yml",
    # A dot in front would hide them from whoever looks for them here, and from some packaging tools.
    ".env": "env",
    ".gitignore": "gitignore",
}


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to write it; made if it is not there.", show_default=False)
    ] = Path(),
    *,
    as_json: Json = False,
) -> None:
    r"""Write a small project that runs: a task, a program that enqueues it, tests, settings, containers.

    No file is overwritten: if one of them is there already, none is written.

    Exit codes: 2 a file is there already, or the folder cannot be written.

    \b
    Examples:
      barque init my_project
      barque init
    """
    written = _write(folder)
    if as_json:
        machine({"folder": str(folder), "files": written})
        return
    for name in written:
        print(folder / name)
    go_there = "" if folder == Path() else f"  cd {folder}\n"
    note(
        "Then, each line in a terminal of its own"
        f"{'' if folder == Path() else ', in that folder'}:\n{go_there}"
        "  barque redis\n  barque worker\n  python enqueue.py https://example.org"
    )


def _write(folder: Path) -> list[str]:
    from importlib import resources  # noqa: PLC0415 - see the top of main.py

    from common.errors import ConfigurationError  # noqa: PLC0415 - likewise

    starter = resources.files("cli") / "starter"
    there = [name for name in _FILES if (folder / name).exists() or (folder / name).is_symlink()]
    if there:
        raise ConfigurationError(
            f"{folder}: there is already {', '.join(there)}; nothing was written. Give a new folder: barque init FOLDER"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in _FILES.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write((starter / f"{source}.tmpl").read_text("utf-8"))
    except OSError as error:
        why = "it is a file" if error.errno in {errno.EEXIST, errno.ENOTDIR} else error.strerror or type(error).__name__
        raise ConfigurationError(f"{folder}: cannot be written: {why}") from None
    return list(_FILES)
