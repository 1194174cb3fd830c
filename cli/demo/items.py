"""What the demo fetches: the sources of this machine's standard library, or a person's own list of URLs.

Owns finding, reading and hashing them, with nothing of Barque's: what the workers bring back is held against this.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from common.errors import ConfigurationError
from workers.tasks.http_errors import masked

__all__ = ["Item", "UrlList", "hash_files", "library_files", "library_folder", "read_urls"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to fetch.

    Attributes:
        name: what its row is called; no two items share one.
        url: where to fetch it.
        label: what it is called on a screen and in a report: without what may be a secret.
        size, sha256: what it must be; None where nothing is known of it.
    """

    name: str
    url: str
    label: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class UrlList:
    """The URLs of a file.

    Attributes:
        items: in the order of the file.
        repeated: lines left out because an earlier one names the same URL.
    """

    items: list[Item]
    repeated: int


def library_folder() -> Path:
    """Return the folder of the standard library's sources."""
    return Path(sysconfig.get_path("stdlib"))


def library_files(folder: Path, most: int | None = None) -> list[str]:
    """Return Python sources under a folder, installed packages left out, as sorted relative POSIX paths.

    Args:
        folder: where to look.
        most: how many, spread evenly over all of them; None takes all.

    Raises:
        ConfigurationError: there are none, as where the library is a zip file.
    """
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if not {"site-packages", "dist-packages", "__pycache__"} & set(path.relative_to(folder).parts)
        and _is_readable_file(path)
    )
    if not found:
        raise ConfigurationError(
            f"no Python sources in {folder}, the standard library of {sys.executable}; "
            "give a list of your own: barque demo --urls FILE"
        )
    if most is None or most >= len(found):
        return found
    return [found[index * len(found) // most] for index in range(most)]


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Return the size in bytes and SHA-256, hexadecimal, of each file."""
    hashed: dict[str, tuple[int, str]] = {}
    for name in names:
        content = (folder / name).read_bytes()
        hashed[name] = len(content), hashlib.sha256(content).hexdigest()
    return hashed


def read_urls(path: Path) -> UrlList:
    """Read a list of URLs: one a line; blank lines and those that start with # are passed over.

    Args:
        path: the file; `-` is standard input.

    Raises:
        ConfigurationError: it cannot be read, has no URL in it, or a line is none; the message names the line.
    """
    place = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        lines = text.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigurationError(f"--urls {place}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"--urls {place}: it is not a text file in UTF-8") from None
    items: dict[str, Item] = {}
    repeated = 0
    for number, line in enumerate(lines, start=1):
        url = line.strip()
        if not url or url.startswith("#"):
            continue
        name = _name_of(url)
        if name is None:
            # Without the line itself: a password may stand in it.
            raise ConfigurationError(f"--urls {place}, line {number}: give an http:// or https:// URL, one a line")
        repeated += name in items
        items.setdefault(name, Item(name, url, f"line {number}: {masked(url)}"))
    if not items:
        raise ConfigurationError(f"--urls {place}: there is no URL in it; write one a line")
    return UrlList(list(items.values()), repeated)


def _name_of(url: str) -> str | None:
    """Return the URL without user, password and fragment, which are not for a database; None if it is none."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not host or any(character.isspace() for character in url):
        return None
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))


def _is_readable_file(path: Path) -> bool:
    try:
        with path.open("rb"):
            return path.is_file()
    except OSError:  # a dangling link, or not ours to read
        return False
