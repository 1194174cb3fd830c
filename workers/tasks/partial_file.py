"""A download while it is not complete: `<name>.part`, and beside it what tells whether it may be continued.

Owns those two files, the lock that keeps a second writer out, and the running checksum. Makes no request.
Everything here blocks; `downloads.py` calls it in threads.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import ExitStack

import msgspec

from workers.tasks.data_root import DataRoot, Place
from workers.tasks.http_errors import DownloadBusy

__all__ = ["Origin", "PartialFile"]

_CHUNK = 1024 * 1024


class Origin(msgspec.Struct, frozen=True):
    """What the bytes of a partial file are the beginning of.

    Attributes:
        source: SHA-256 of the URL, hexadecimal; the URL itself may hold a secret.
        validator: the server's ETag or Last-Modified, for `If-Range`.
    """

    source: str
    validator: str


class PartialFile:
    """The files of one download, open and locked until `close`.

    Attributes:
        size: bytes written so far.
        origin: where those bytes came from, or None if they cannot be continued.

    Raises:
        DownloadBusy: another attempt on this machine holds the lock.
        PathRefused: the path leaves the data root or leads through a link.
    """

    def __init__(self, root: DataRoot, path: str) -> None:
        self._stack = ExitStack()
        try:
            self._target = self._stack.enter_context(root.locate(path, create=True))
            self._part = self._target.beside(f"{self._target.name}.part")
            self._note = self._target.beside(f"{self._target.name}.part.origin")
            self._file = self._stack.enter_context(os.fdopen(_open_locked(self._part), "r+b", buffering=0))
            self.size = 0
            self._digest = hashlib.sha256()
            self.origin = self._read_note()
            if self.origin is None:
                self.restart()
            else:
                self._read_what_is_there()
        except BaseException:
            self._stack.close()
            raise

    @property
    def sha256(self) -> str:
        """The checksum of what is written so far, hexadecimal."""
        return self._digest.hexdigest()

    def restart(self, origin: Origin | None = None) -> None:
        """Throw away what is there. Without an origin, the next attempt will do the same."""
        # The note goes first and comes last: whenever the machine stops, a note never vouches for other bytes.
        self._note.remove()
        self._file.seek(0)
        self._file.truncate()
        self.size = 0
        self._digest = hashlib.sha256()
        self.origin = origin
        if origin is not None:
            descriptor = self._note.open(os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with os.fdopen(descriptor, "wb") as note:
                note.write(msgspec.json.encode(origin))

    def write(self, data: bytes) -> None:
        """Append to what is there."""
        remaining = memoryview(data)
        while remaining:
            written = self._file.write(remaining)
            self._digest.update(remaining[:written])
            self.size += written
            remaining = remaining[written:]

    def finish(self) -> None:
        """Put the bytes on the disk and give the file its name, at once."""
        os.fsync(self._file.fileno())
        self._target.take_over(self._part)
        self._note.remove()

    def discard(self) -> None:
        """Remove both files."""
        self._note.remove()
        self._part.remove()

    def close(self) -> None:
        """Close and unlock; what is written stays for the next attempt."""
        self._stack.close()

    def _read_note(self) -> Origin | None:
        try:
            with os.fdopen(self._note.open(os.O_RDONLY), "rb") as note:
                return msgspec.json.decode(note.read(_CHUNK), type=Origin)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def _read_what_is_there(self) -> None:
        while chunk := self._file.read(_CHUNK):
            self._digest.update(chunk)
            self.size += len(chunk)


def _open_locked(part: Place) -> int:
    while True:
        descriptor = part.open(os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between our open and our lock the other attempt may have finished: then what we hold is
            # the finished file, and writing to it would spoil it.
            current = os.stat(part.name, dir_fd=part.folder, follow_symlinks=False)
            if os.path.samestat(current, os.fstat(descriptor)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise DownloadBusy(f"{part.path!r} is being written by another attempt") from None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
