"""Tasks on files: read, write, append, checksum, list.

Every path is relative to the data root (`BARQUE_DATA_ROOT`) and cannot leave it: not by `..`, not by being
absolute, not through a symbolic link (`data_root.py`). Nothing here blocks the event loop: each task does its
work in one piece, in a thread.
"""

from __future__ import annotations

import asyncio
import fcntl
import fnmatch
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, Literal

import msgspec

from common import Context, RetryPolicy, task
from common.errors import BarqueError
from workers.tasks.data_root import DataRoot, FileTooLarge, PathRefused, data_root

__all__ = [
    "AppendMismatch",
    "Checksum",
    "FileInfo",
    "Listing",
    "append_file",
    "checksum_file",
    "list_files",
    "read_file",
    "write_file",
]

LARGEST_CONTENT = 64 * 1024 * 1024
"""Bytes one task reads or writes at most: arguments and results travel through Redis, files need not."""

LARGEST_LISTING = 10_000
_CHUNK = 1024 * 1024


class AppendMismatch(BarqueError):
    """The file does not stand where `append_file(at=…)` was told it would."""


_POLICY = RetryPolicy(
    fail_on=(
        PathRefused,
        FileTooLarge,
        AppendMismatch,
        FileNotFoundError,
        NotADirectoryError,
        IsADirectoryError,
        PermissionError,
        ValueError,
    )
)


class FileInfo(msgspec.Struct, frozen=True):
    """One file.

    Attributes:
        path: relative to the data root, with `/` between folders.
        size: bytes.
        modified_ms: Unix milliseconds of the last change.
    """

    path: str
    size: int
    modified_ms: int


class Listing(msgspec.Struct, frozen=True):
    """The files found, sorted by path.

    Attributes:
        files: at most as many as the call allowed.
        truncated: whether there were more.
    """

    files: list[FileInfo]
    truncated: bool


class Checksum(msgspec.Struct, frozen=True):
    """The checksum of one file.

    Attributes:
        path: relative to the data root.
        algorithm: such as `sha256`.
        hexdigest: lower-case hexadecimal.
        size: the bytes that were read.
    """

    path: str
    algorithm: str
    hexdigest: str
    size: int


@task(retry=_POLICY)
async def read_file(ctx: Context, path: str) -> bytes:  # noqa: ARG001 - the shape of a task
    """Read a whole file.

    Args:
        path: relative to the data root.

    Returns:
        Its bytes; at most 64 MiB, since results travel through Redis.

    Raises:
        PathRefused: the path leaves the data root or leads through a link. Not retried.
        FileTooLarge: the file is over 64 MiB. Not retried.
        FileNotFoundError: there is no such file. Not retried.
    """
    return await asyncio.to_thread(_read, data_root(), path)


@task(retry=_POLICY)
async def write_file(ctx: Context, path: str, content: str | bytes) -> FileInfo:  # noqa: ARG001
    """Write a whole file, at once: readers see the old content or the new, never a part.

    Missing folders are made. The content is on the disk, not only in its cache, when the task ends.
    Running twice has the effect of running once.

    Args:
        path: relative to the data root.
        content: at most 64 MiB; text is written as UTF-8.

    Raises:
        PathRefused: the path leaves the data root, leads through a link, or names a folder. Not retried.
        FileTooLarge: the content is over 64 MiB. Not retried.
        OSError: the disk is full, or failed. Retried; the old content is still there.
    """
    return await asyncio.to_thread(_write, data_root(), path, _encoded(content))


@task(retry=_POLICY)
async def append_file(ctx: Context, path: str, content: str | bytes, *, at: int | None = None) -> FileInfo:  # noqa: ARG001
    """Append to a file, which is made if missing, together with its folders.

    Appends to one file, from any worker on this machine, never mix. Jobs run at least once, so a job whose
    worker died may append twice. Give `at` to rule that out: what is already there is not written again.

    Args:
        path: relative to the data root.
        content: at most 64 MiB; text is written as UTF-8.
        at: the size in bytes the file has before this append; None takes whatever it is.

    Raises:
        AppendMismatch: the file is shorter than `at`, or holds something else from there on. Not retried.
        PathRefused: the path leaves the data root, leads through a link, or names a folder. Not retried.
        FileTooLarge: the content is over 64 MiB. Not retried.
        OSError: the disk is full, or failed. Retried; the file is as long as it was.
    """
    return await asyncio.to_thread(_append, data_root(), path, _encoded(content), at)


@task(retry=_POLICY)
async def checksum_file(
    ctx: Context,  # noqa: ARG001
    path: str,
    *,
    algorithm: Literal["sha256", "sha512", "sha1", "md5", "blake2b"] = "sha256",
) -> Checksum:
    """Compute the checksum of a file of any size.

    Args:
        path: relative to the data root.
        algorithm: `md5` and `sha1` are for comparing with what others published, not for security.

    Raises:
        PathRefused: the path leaves the data root or leads through a link. Not retried.
        FileNotFoundError: there is no such file. Not retried.
    """
    stopped = threading.Event()
    try:
        return await asyncio.to_thread(_checksum, data_root(), path, algorithm, stopped)
    finally:
        # A cancelled job must not leave a thread reading hundreds of gigabytes for nobody.
        stopped.set()


@task(retry=_POLICY)
async def list_files(
    ctx: Context,  # noqa: ARG001
    folder: str = ".",
    *,
    pattern: str = "*",
    recursive: bool = False,
    limit: int = LARGEST_LISTING,
) -> Listing:
    """List the regular files of a folder. Links are left out; hidden files too, unless asked for.

    Args:
        folder: relative to the data root; "." is the root.
        pattern: matched against the file's name, as in a shell: `*.csv`. One that starts with a dot
            finds hidden files.
        recursive: look into the folders below as well.
        limit: files to return at most, 1 to 10,000.

    Raises:
        PathRefused: the path leaves the data root or leads through a link. Not retried.
        FileNotFoundError: there is no such folder. Not retried.
        ValueError: the limit is out of range. Not retried.
    """
    if not 1 <= limit <= LARGEST_LISTING:
        raise ValueError(f"limit={limit}: give 1 to {LARGEST_LISTING}")
    return await asyncio.to_thread(_list, data_root(), folder, pattern, limit, recursive=recursive)


def _encoded(content: str | bytes) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    if len(data) > LARGEST_CONTENT:
        raise FileTooLarge(f"the content has {len(data)} bytes; {LARGEST_CONTENT} are allowed")
    return data


def _read(root: DataRoot, path: str) -> bytes:
    with root.reading(path) as file:
        # Read one byte more than allowed instead of asking for the size: the file may grow meanwhile.
        content = file.read(LARGEST_CONTENT + 1)
    if len(content) > LARGEST_CONTENT:
        raise FileTooLarge(f"{path!r} has more than the {LARGEST_CONTENT} bytes one task may read")
    return content


def _write(root: DataRoot, path: str, data: bytes) -> FileInfo:
    with root.replacing(path) as file:
        file.write(data)
        file.flush()
        status = os.fstat(file.fileno())
    return _info(path, status)


def _append(root: DataRoot, path: str, data: bytes, at: int | None) -> FileInfo:
    with root.locate(path, create=True) as place:
        descriptor = place.open(os.O_RDWR | os.O_CREAT)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = os.fstat(file.fileno()).st_size
            missing = data if at is None else _not_yet_there(file, path, data, at, size)
            try:
                file.seek(0, os.SEEK_END)
                remaining = memoryview(missing)
                while remaining:
                    remaining = remaining[file.write(remaining) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
            return _info(path, os.fstat(file.fileno()))


def _not_yet_there(file: BinaryIO, path: str, data: bytes, at: int, size: int) -> bytes:
    """Return the part of `data` that an earlier attempt did not write."""
    if at < 0:
        raise AppendMismatch(f"at={at}: give a size in bytes, zero or more")
    if size < at:
        raise AppendMismatch(f"{path!r} has {size} bytes, and the append was to come after {at}")
    present = min(size - at, len(data))
    if os.pread(file.fileno(), present, at) != data[:present]:
        raise AppendMismatch(f"{path!r} holds something else after byte {at} than this append")
    return data[present:]


def _checksum(root: DataRoot, path: str, algorithm: str, stopped: threading.Event) -> Checksum:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    size = 0
    with root.reading(path) as file:
        while not stopped.is_set() and (chunk := file.read(_CHUNK)):
            digest.update(chunk)
            size += len(chunk)
    return Checksum(_relative(path), algorithm, digest.hexdigest(), size)


def _list(root: DataRoot, folder: str, pattern: str, limit: int, *, recursive: bool) -> Listing:
    with root.open_folder(folder) as descriptor:
        found = sorted(
            _matching(descriptor, _relative(folder), pattern, recursive=recursive), key=lambda info: info.path
        )
    return Listing(files=found[:limit], truncated=len(found) > limit)


def _matching(descriptor: int, folder: str, pattern: str, *, recursive: bool) -> Iterator[FileInfo]:
    hidden = pattern.startswith(".")
    # fwalk holds each folder open and follows no link, so that a folder swapped meanwhile leads nowhere.
    for below, folders, names, handle in os.fwalk(".", dir_fd=descriptor, follow_symlinks=False):
        if not recursive:
            folders.clear()
        elif not hidden:
            folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if (name.startswith(".") and not hidden) or not fnmatch.fnmatchcase(name, pattern):
                continue
            try:
                status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed since the folder was read
            if stat.S_ISREG(status.st_mode):
                yield _info(str(PurePosixPath(folder, below, name)), status)


def _info(path: str, status: os.stat_result) -> FileInfo:
    return FileInfo(_relative(path), status.st_size, status.st_mtime_ns // 1_000_000)


def _relative(path: str) -> str:
    """Return the path as `DataRoot` reads it: without `.` and doubled slashes."""
    return str(PurePosixPath(path))
