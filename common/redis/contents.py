"""Payloads, results and parts of dead letters of many jobs, read as far as that is not too much.

Owns the bounds. Values are fetched by their length, a megabyte at a time, for a foreign program may have written any
amount.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis.asyncio
from redis.exceptions import ResponseError

from common.redis.scripts import Script
from common.redis.wire import call

__all__ = ["LARGEST_LISTED", "SCRIPTS", "is_foreign", "read_contents"]

CONTENTS = Script("contents")

SCRIPTS = (CONTENTS,)

LARGEST_LISTED = 1024 * 1024
"""Bytes of a payload or a result past which it is not read for a list."""

_AT_ONCE = 1024 * 1024
"""Bytes fetched in one step: the server copies them while all others wait."""

_A_FEW = 2
"""Values that are read without a script: who looks up single jobs need have no right to run one (access.py)."""


async def read_contents(
    client: redis.asyncio.Redis, names: Sequence[bytes], field: str = ""
) -> list[bytes | str | None]:
    """Return what stands under these keys, or in this field of each; text says why something was not read."""
    contents: list[bytes | str | None] = []
    while len(contents) < len(names):
        part = names[len(contents) :]
        if len(part) <= _A_FEW:
            replies = [await _read(client, name, field) for name in part]
        else:
            replies = await CONTENTS(client, (), (LARGEST_LISTED, _AT_ONCE, field, *part))
        contents += map(_in_words, replies)
    return contents


def is_foreign(error: ResponseError) -> bool:
    """Whether the server says that a key holds something of another type, as only a foreign program would write it."""
    return "WRONGTYPE" in str(error)


async def _read(client: redis.asyncio.Redis, name: bytes, field: str) -> Any:
    """Return what contents.lua does of one key."""
    try:
        size = await call(client, ("HSTRLEN", name, field) if field else ("STRLEN", name))
        if not 0 < size <= LARGEST_LISTED:
            return size or None
        return await call(client, ("HGET", name, field) if field else ("GET", name))
    except ResponseError as error:
        if not is_foreign(error):
            raise
        return -1


def _in_words(reply: Any) -> bytes | str | None:
    """Return what contents.lua says of one key, a number in words."""
    if reply == -1:
        return "what is stored there is of another type: no payload"
    return f"its {reply:,} bytes are not read for a list" if isinstance(reply, int) else reply
