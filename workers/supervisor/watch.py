"""Look for changes of source files, in a thread: for `barque worker --reload`. Needs the `watch` extra.

Owns which files count. What is done then is fleet.py's.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from common.errors import ConfigurationError

__all__ = ["SourceWatch", "counts", "folders_of"]

_SOURCES = {".py", ".pyi", ".pyx", ".so", ".toml"}

_ENVIRONMENT = ".env"

_NOT_OURS = frozenset({
    "__pycache__", ".git", ".hg", ".svn", ".venv", "venv", ".tox", ".nox", ".idea", ".vscode", "node_modules",
    "site-packages", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "barque-data", "build", "dist",
})  # fmt: skip

_QUIET_MS = 200
_LONGEST_MS = 1600
"""Changes that follow one another so closely are one: an editor writes a file in several steps, git many files."""


class SourceWatch:
    """Calls something whenever sources have changed.

    Args:
        folders: looked through with all below.
        changed: called, from a thread, with the files by their names as one would write them here.

    Raises:
        ConfigurationError: the `watch` extra is not installed.
    """

    def __init__(self, folders: Iterable[Path], changed: Callable[[list[str]], None]) -> None:
        try:
            import watchfiles  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            raise ConfigurationError(
                '--reload needs watchfiles, which is not installed: pip install "barque[watch]"'
            ) from None
        self._watch = watchfiles.watch
        self._folders = list(folders)
        self._changed = changed
        self._end = threading.Event()
        threading.Thread(target=self._run, name="barque-watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()

    def _run(self) -> None:
        for changes in self._watch(
            *self._folders,
            watch_filter=lambda _, path: counts(Path(path), self._folders),
            debounce=_LONGEST_MS,
            step=_QUIET_MS,
            stop_event=self._end,
            rust_timeout=1000,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            here = Path.cwd()
            files = {Path(path) for _, path in changes}
            self._changed(sorted(str(f.relative_to(here) if f.is_relative_to(here) else f) for f in files)[:20])


def counts(path: Path, folders: Iterable[Path]) -> bool:
    """Return whether a change of this file is one of the code, or of the settings."""
    if path.suffix not in _SOURCES and path.name != _ENVIRONMENT:
        return False
    below = next((path.relative_to(folder) for folder in folders if path.is_relative_to(folder)), path)
    return not any(part in _NOT_OURS or _is_environment(part, path) for part in below.parts[:-1])


def _is_environment(part: str, path: Path) -> bool:
    """Tell whether a folder on the way to a file is a virtual environment, whatever its name."""
    at = path.parts.index(part)
    return (Path(*path.parts[: at + 1]) / "pyvenv.cfg").exists()


def folders_of(modules: Iterable[str]) -> list[Path]:
    """Return where the sources are: the current folder, and those of these modules that lie elsewhere, uninstalled.

    Imports none of them: the supervisor is to have no code of theirs.
    """
    found = [Path.cwd()]
    for module in modules:
        try:
            spec = importlib.util.find_spec(module.partition(".")[0])
        except (ImportError, ValueError):
            continue
        places = [] if spec is None else [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]
        for place in places:
            folder = Path(os.path.realpath(place))
            folder = folder if folder.is_dir() else folder.parent
            installed = "site-packages" in folder.parts or not folder.is_dir()
            if not installed and not any(folder.is_relative_to(known) for known in found):
                found.append(folder)
    return found
