"""The folder that file tasks work in, and that no path can leave.

Owns how a path given by a job becomes an open file. Each folder on the way is opened by name inside the
folder before it, never through a symbolic link (`openat` with `O_NOFOLLOW`), and the file is opened inside
the last one. So there is no moment between a check and a use: a folder swapped for a link meanwhile is
either not followed, or no longer looked at. All of it blocks; tasks call it in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from common.errors import BarqueError
from common.settings import settings_for_process

__all__ = ["DataRoot", "FileTooLarge", "PathRefused", "Place", "data_root"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a FIFO that somebody left there would wait for ever.
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class PathRefused(BarqueError):
    """The path leaves the data root, leads through a symbolic link, or names no regular file."""


class FileTooLarge(BarqueError):
    """The file or the data is over the limit; the message has both numbers."""


@dataclass(frozen=True, slots=True)
class Place:
    """One name inside one open folder.

    Attributes:
        folder: the folder's file descriptor, open as long as the `with` block that gave the Place.
        name: the last component of the path.
        path: the whole path below the root, for messages.
    """

    folder: int
    name: str
    path: str

    def beside(self, name: str) -> Place:
        """Return another name in the same folder."""
        return Place(self.folder, name, str(Path(self.path).with_name(name)))

    def open(self, flags: int) -> int:
        """Open the regular file of that name and return its descriptor.

        Args:
            flags: as of `os.open`; a new file gets the mode 0o644 less the umask.

        Raises:
            FileNotFoundError: there is none, and the flags do not make one.
            PathRefused: it is a link, a folder, a device, a pipe.
        """
        try:
            descriptor = os.open(self.name, flags | _FILE, 0o644, dir_fd=self.folder)
        except OSError as error:
            raise self._explain(error) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise PathRefused(f"{self.path!r} is not a regular file")
        return descriptor

    def remove(self) -> None:
        """Remove the name, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self.folder)

    def take_over(self, other: Place) -> None:
        """Give the file called `other`, in the same folder, this name at once, and make that last.

        A link of this name is replaced, never followed.
        """
        try:
            os.replace(other.name, self.name, src_dir_fd=other.folder, dst_dir_fd=self.folder)
        except OSError as error:
            raise self._explain(error) from None
        os.fsync(self.folder)

    def _explain(self, error: OSError) -> Exception:
        if error.errno in {errno.ELOOP, errno.EMLINK}:  # EMLINK is what FreeBSD says
            return PathRefused(f"{self.path!r} is a symbolic link, and file tasks follow none")
        if error.errno in {errno.EISDIR, errno.ENXIO}:
            return PathRefused(f"{self.path!r} is not a regular file")
        return _plain(error, self.path)


class DataRoot:
    """The folder no file task can leave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def open_folder(self, path: str, *, create: bool = False) -> Iterator[int]:
        """Open a folder below the root; yield its descriptor.

        Args:
            path: relative to the root; "." is the root itself.
            create: make the folders that are missing.

        Raises:
            PathRefused: the path is absolute, has a ".." or leads through a symbolic link.
            FileNotFoundError: a folder is missing.
        """
        parts = _parts(path)
        self.folder.mkdir(parents=True, exist_ok=True)
        # The root itself may be a link: the operator, not a job, says where it is.
        descriptor = os.open(self.folder, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for index, part in enumerate(parts):
                inner = _enter(descriptor, part, "/".join(parts[: index + 1]), create=create)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def locate(self, path: str, *, create: bool = False) -> Iterator[Place]:
        """Open the folder that a file is in, or is to be in; yield the file's Place.

        Raises:
            PathRefused: the path leaves the root, leads through a link, or names the root itself.
            FileNotFoundError: a folder is missing, and `create` is not set.
        """
        parts = _parts(path)
        if not parts:
            raise PathRefused(f"{path!r} names the data root itself, not a file in it")
        with self.open_folder("/".join(parts[:-1]) or ".", create=create) as folder:
            yield Place(folder, parts[-1], "/".join(parts))

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[BufferedReader]:
        """Open a file to read.

        Raises:
            PathRefused: see `locate`; or it is no regular file.
            FileNotFoundError: there is none.
        """
        with self.locate(path) as place, os.fdopen(place.open(os.O_RDONLY), "rb") as file:
            yield file

    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[BinaryIO]:
        """Open a file to write that takes its name only when the block ends well.

        Readers see the old content or the new, never a part; after a crash the one or the other is
        there. If the block raises, the old content stays.

        Raises:
            PathRefused: see `locate`; or a folder has that name.
        """
        with self.locate(path, create=True) as place:
            temporary = place.beside(f".{place.name[:200]}.{secrets.token_hex(8)}.tmp")
            descriptor = temporary.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                place.take_over(temporary)
            except BaseException:
                temporary.remove()
                raise


def data_root() -> DataRoot:
    """Return the data root of this process's settings (`BARQUE_DATA_ROOT`)."""
    return DataRoot(settings_for_process().data_root)


def _parts(path: str) -> list[str]:
    if not path or "\0" in path:
        raise PathRefused("the path is empty or holds a null character")
    if path.startswith("/"):
        raise PathRefused(f"{path!r} is absolute; give a path relative to the data root")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise PathRefused(f"{path!r} has a '..'; a path cannot leave the data root")
    return parts


def _enter(folder: int, name: str, path: str, *, create: bool) -> int:
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=folder)
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError as error:
        # Linux says ENOTDIR for a link too, so only a look tells them apart; it words the message, no more.
        if error.errno in {errno.ELOOP, errno.EMLINK, errno.ENOTDIR}:
            linked = stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
            what = "a symbolic link, and file tasks follow none" if linked else "not a folder"
            raise PathRefused(f"{path!r} is {what}") from None
        raise _plain(error, path) from None


def _plain(error: OSError, path: str) -> OSError:
    """Return the same error with the path below the root, not the bare name the call was given."""
    return type(error)(error.errno, error.strerror, path)
