"""One download, from the request to the file.

Owns the conversation: whether to ask for the rest or for everything, and what the answer means for the bytes
already there. `partial_file.py` owns the bytes, `http_client.py` the connection, `http.py` the task.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

from common import Context
from common.settings import settings_for_process
from workers.tasks.data_root import data_root
from workers.tasks.http_client import Answer, Request, http_client
from workers.tasks.http_errors import (
    BodyTooLarge,
    ChecksumMismatch,
    HttpConnectionError,
    check_status,
    masked,
)
from workers.tasks.partial_file import Origin, PartialFile

__all__ = ["download"]

T = TypeVar("T")

_WRITE_AT_ONCE = 1024 * 1024
_SECONDS_BETWEEN_LINES = 5.0
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


async def download(
    ctx: Context, url: str, path: str, headers: Mapping[str, str], sha256: str | None
) -> tuple[int, str, int]:
    """Download to a file under the data root.

    Returns:
        The file's size, its SHA-256 in hexadecimal, and how many bytes an earlier attempt had fetched.

    Raises:
        ChecksumMismatch: the file is complete, but is not the one expected; it is thrown away.
        HttpError: see `http_errors`; what arrived stays for the next attempt.
    """
    part = await _opened(path)
    try:
        source = hashlib.sha256(url.encode()).hexdigest()
        if part.origin is not None and part.origin.source != source:
            await _in_thread(part.restart)
        resumed = await _fetch(ctx, part, url, headers, source)
        if sha256 is not None and part.sha256 != sha256.lower():
            await _in_thread(part.discard)
            raise ChecksumMismatch(f"{masked(url)}: expected SHA-256 {sha256.lower()}, got {part.sha256}")
        await _in_thread(part.finish)
        return part.size, part.sha256, resumed
    finally:
        part.close()


async def _opened(path: str) -> PartialFile:
    """Open the partial file in a thread, and close it again if the job is cancelled meanwhile."""
    opening = asyncio.get_running_loop().run_in_executor(None, PartialFile, data_root(), path)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unused)
        raise


def _close_unused(opening: asyncio.Future[PartialFile]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


async def _fetch(ctx: Context, part: PartialFile, url: str, headers: Mapping[str, str], source: str) -> int:
    """Fetch what is missing; return how many bytes were already there."""
    async with _asked(ctx, part, url, headers) as answer:
        if answer.response.status != 416:
            return await _receive(ctx, part, answer, url, source)
    # There is no rest to have: the file got shorter, or all of it was there. The server knows which, we do not.
    await _in_thread(part.restart)
    async with _asked(ctx, part, url, headers) as answer:
        return await _receive(ctx, part, answer, url, source)


@contextlib.asynccontextmanager
async def _asked(ctx: Context, part: PartialFile, url: str, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
    """Ask for the rest if that can be joined to what is there, else for everything."""
    # Compressed on the fly, byte positions would mean something else on each request.
    asked = {**headers, "Accept-Encoding": "identity"}
    if part.size and part.origin is not None:
        # If the file has changed, If-Range makes the server send all of the new one instead.
        asked |= {"Range": f"bytes={part.size}-", "If-Range": part.origin.validator}
    request = Request("GET", url, asked, stall=settings_for_process().http_timeout)
    client = await ctx.open(http_client)
    async with client.send(request) as answer:
        yield answer


async def _receive(ctx: Context, part: PartialFile, answer: Answer, url: str, source: str) -> int:
    response = answer.response
    check_status(response.status, response.headers, method="GET", url=answer.url)
    if response.status not in {200, 206}:
        raise HttpConnectionError(f"{masked(url)}: answered {response.status}, which is no file")
    if response.status == 206:
        await _check_continues(part, answer)
    else:
        await _in_thread(functools.partial(part.restart, _origin(answer, source)))
    already = part.size
    limit = settings_for_process().http_download_max_bytes - already
    if limit < 0 or (response.content_length or 0) > limit:
        await _in_thread(part.discard)
        raise BodyTooLarge(f"{masked(url)}: the file is over {limit + already} bytes")
    total = already + response.content_length if response.content_length is not None else None
    try:
        async with contextlib.aclosing(answer.chunks(limit)) as chunks:
            await _write_all(ctx, part, chunks, total)
    except BodyTooLarge:
        await _in_thread(part.discard)
        raise
    return already


async def _check_continues(part: PartialFile, answer: Answer) -> None:
    """Refuse a 206 that is not the rest of what is there."""
    headers = answer.response.headers
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    etag = headers.get("ETag")
    same = part.origin is not None and (
        etag is None or etag == part.origin.validator or not part.origin.validator.startswith('"')
    )
    if found is None or int(found[1]) != part.size or not same:
        await _in_thread(part.restart)
        raise HttpConnectionError(
            f"{masked(answer.url)}: the server sent another part than the one asked for; starting over"
        )


def _origin(answer: Answer, source: str) -> Origin | None:
    """Return what a later attempt needs to continue, or None if the server gave nothing to hold on to."""
    headers = answer.response.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        return None  # what is written is decompressed, and its positions are not the server's
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified", "")  # a weak ETag will not do
    return Origin(source, validator) if validator else None


async def _write_all(ctx: Context, part: PartialFile, chunks: AsyncIterator[bytes], total: int | None) -> None:
    """Write in pieces of a megabyte: a thread for each network chunk would cost more than the writing."""
    buffer = bytearray()
    told = time.monotonic()
    try:
        async for chunk in chunks:
            buffer += chunk
            if len(buffer) < _WRITE_AT_ONCE:
                continue
            data, buffer = bytes(buffer), bytearray()
            await _in_thread(functools.partial(part.write, data))
            if time.monotonic() - told > _SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                ctx.log.info("download_progress", bytes=part.size, total=total)
    finally:
        # Also when the connection broke: the next attempt then asks for less.
        if buffer:
            await _in_thread(functools.partial(part.write, bytes(buffer)))


async def _in_thread(work: Callable[[], T]) -> T:
    """Run in a thread; when cancelled, wait for it before going on.

    Otherwise the file would be closed under the thread, which then writes to whatever got its number.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:
            break  # it is raised below, where it came from
    if cancelled is not None:
        running.exception()  # looked at, so that it is not reported as forgotten
        raise cancelled
    return running.result()
