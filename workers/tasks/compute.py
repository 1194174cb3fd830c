"""A CPU-bound task: compress a file.

Shows the way such work goes: the coroutine only hands a plain function to a process
(`run_in_process`, workers/processes/pool.py) and waits, so that the event loop and the other jobs of the worker go on.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, cast

import msgspec

from common import Context, RetryPolicy, task
from common.errors import ConfigurationError
from common.settings import settings_for_process
from workers.processes.pool import run_in_process
from workers.tasks.data_root import DataRoot, PathRefused

__all__ = ["Compressed", "compress_file", "run_in_process"]

Algorithm = Literal["xz", "gzip", "bzip2"]

_SUFFIXES: dict[Algorithm, str] = {"xz": ".xz", "gzip": ".gz", "bzip2": ".bz2"}
_CHUNK = 1024 * 1024


class Compressed(msgspec.Struct, frozen=True, kw_only=True):
    """What `compress_file` made.

    Attributes:
        path: the compressed file, relative to the data root.
        size_before: bytes.
        size: bytes.
        sha256: of the compressed file, hexadecimal.
    """

    path: str
    size_before: int
    size: int
    sha256: str


@task(
    timeout=3600,
    retry=RetryPolicy(
        max_attempts=3,
        fail_on=(
            PathRefused,
            FileNotFoundError,
            NotADirectoryError,
            PermissionError,
            ValueError,
            ConfigurationError,
        ),
    ),
)
async def compress_file(
    ctx: Context, path: str, *, to: str | None = None, algorithm: Algorithm = "xz", level: int = 6
) -> Compressed:
    """Compress a file of any size, in another process; the file itself stays.

    The new file takes its name at once, when it is complete. The same file gives the same bytes, so running
    twice has the effect of running once.

    Args:
        path: relative to the data root.
        to: the new file; by default the path with `.xz`, `.gz` or `.bz2` after it.
        algorithm: `xz` makes the smallest files, `gzip` is the fastest and read everywhere.
        level: 1 (fast) to 9 (small).

    Raises:
        PathRefused: a path leaves the data root or leads through a link. Not retried.
        FileNotFoundError: there is no such file. Not retried.
        ValueError: the level is out of range, or both paths are the same. Not retried.
        OSError: the disk is full, or failed. Retried.
        ProcessLost: the process died. Retried.
    """
    if not 1 <= level <= 9:
        raise ValueError(f"level={level}: give 1 to 9")
    target = path + _SUFFIXES[algorithm] if to is None else to
    if Path(target) == Path(path):
        raise ValueError(f"{path!r} cannot be compressed onto itself; name another file with to=")
    root = str(settings_for_process().data_root.absolute())
    return await run_in_process(ctx, _compress, root, path, target, algorithm, level)


def _compress(root: str, path: str, target: str, algorithm: Algorithm, level: int) -> Compressed:
    """Compress one file; runs in a process of the pool."""
    folder = DataRoot(Path(root))
    with folder.reading(path) as source, folder.replacing(target) as file:
        counted = _Counted(file)
        with _compressor(counted, algorithm, level) as compressor:
            while chunk := source.read(_CHUNK):
                compressor.write(chunk)
        size_before = source.tell()
    return Compressed(path=target, size_before=size_before, size=counted.size, sha256=counted.digest.hexdigest())


class _Counted:
    """A file to write, as the compressors see it, that knows what went through."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _compressor(file: _Counted, algorithm: Algorithm, level: int) -> BinaryIO:
    target = cast("BinaryIO", file)
    make: dict[Algorithm, Callable[[], object]] = {
        "xz": lambda: lzma.LZMAFile(target, "wb", preset=level),  # noqa: SIM115 - the caller does
        # No name and no time in the header: the same content gives the same bytes.
        "gzip": lambda: gzip.GzipFile("", "wb", level, target, mtime=0),
        "bzip2": lambda: bz2.BZ2File(target, "wb", compresslevel=level),
    }
    return cast("BinaryIO", make[algorithm]())
