"""The cursor of a list of jobs: where to go on, as text that fits into a URL.

Owns its form. It is no secret and no proof: what comes back is checked, and gives whoever sends it no more than the
filters do.
"""

from __future__ import annotations

import base64
import math
import zlib
from typing import Annotated, Any

import msgspec

from common.errors import ConfigurationError
from common.redis.listing import Spot
from common.values import MALFORMED

__all__ = ["Place", "decode_cursor", "encode_cursor"]

_VERSION = 1
_LONGEST = 4096


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A place on the way through all lists.

    Attributes:
        walk: the list: a name of `LISTED_STATES`, or "ended" for all that results tell of.
        queue: in it; "" where the list is not of a queue.
        way: which of the ways through it, from 0.
        since_ms: since when it has been gone through, Unix ms.
    """

    walk: str = ""
    queue: bytes = b""
    way: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0
    since_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    score: str = ""
    last: bytes = b""
    scan: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def spot(self) -> Spot:
        """The place on this way."""
        return Spot(repr(float(self.score)) if self.score else "", self.last, self.scan)

    def since(self, now_ms: int) -> Place:
        """Return this place; where nobody has noted yet since when this is gone through, as of then."""
        return self if self.since_ms else msgspec.structs.replace(self, since_ms=now_ms)

    def at(self, spot: Spot) -> Place:
        """Return another place on the same way."""
        return msgspec.structs.replace(self, score=spot.score, last=spot.last, scan=spot.scan)


class _Cursor(msgspec.Struct, array_like=True):
    version: int
    digest: int
    place: Place


_decoder = msgspec.msgpack.Decoder(_Cursor)


def encode_cursor(place: Place, filters: object) -> str:
    """Return the cursor of a place.

    Args:
        filters: what it is a place among, which has a `repr` of its own.
    """
    raw = msgspec.msgpack.encode(_Cursor(_VERSION, _digest(filters), place))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(cursor: Any, filters: object) -> Place:
    """Return the place that a cursor names.

    Raises:
        ConfigurationError: it is none of ours, or belongs to other filters.
    """
    found = _read(cursor) if isinstance(cursor, str) and len(cursor) <= _LONGEST else None
    if found is None:
        raise ConfigurationError("cursor=…: give `next` of the page before, as it is")
    if found.digest != _digest(filters):
        raise ConfigurationError("cursor=…: the page before had other filters; give the same ones, or no cursor")
    return found.place


def _read(cursor: str) -> _Cursor | None:
    try:
        found = _decoder.decode(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        is_ours = found.version == _VERSION and not math.isnan(float(found.place.score or 0))
    except (*MALFORMED, ValueError):  # binascii's own error is one of these
        return None
    return found if is_ours else None


def _digest(filters: object) -> int:
    return zlib.crc32(repr(filters).encode(errors="backslashreplace"))
