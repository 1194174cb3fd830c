"""Bytes that are not what they should be: mutations of job payloads, each of a kind that happens or is done.

Pure: a `random.Random` of a known seed decides everything, so what a failure names can be made again.
"""

from __future__ import annotations

import gzip
import json
import math
import pickle
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

__all__ = ["MUTATIONS", "mutated", "valid_payload"]

Mutation = Callable[[random.Random], bytes]

NAMES = ("square", "echo", "measure")

_NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63 - 1, 2**64 - 1, -(2**63),
    0.0, -0.0, 1e308, 5e-324, math.nan, math.inf, -math.inf,
    "", "\x00", "\ud7ff\ue000", "a" * 70_000, "\x1b]0;x\x07", "../../etc/passwd", "nan", "1",
    b"", b"\xff\xfe", b"\x80\x04.", [], {}, [[]], [None] * 1000, {"": None}, {"f": "square"},
    msgspec.msgpack.Ext(1, b""), msgspec.msgpack.Ext(-1, b"\xff" * 3), msgspec.msgpack.Ext(127, b"x" * 300),
    datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC),
)  # fmt: skip

# Headers of msgpack that promise up to four billion of what is not there: str, bin, array, map, ext.
_HUGE = (b"\xdb", b"\xc6", b"\xdd", b"\xdf", b"\xc9")


def valid_fields(chance: random.Random) -> dict[str, Any]:
    """Return the map of a job that would run well."""
    name = chance.choice(NAMES)
    args, kwargs = {
        "square": ([chance.randrange(10**6)], {}),
        "echo": ([chance.choice(_NASTY[:9]), "text", [1, 2.5, None]], {"named": {"deep": [{}]}}),
        "measure": ([["a", "bc"], 0.5], {"limits": {"x": 1}}),
    }[name]
    fields = {"t": None, "f": name, "a": args, "k": kwargs, "et": 1_700_000_000_000 + chance.randrange(10**9)}
    if chance.random() < 0.3:
        fields["b"] = {"timeout": 5.0, "meta": {"trace": "abc"}}
    return fields


def valid_payload(chance: random.Random) -> bytes:
    """Return the payload of a job that would run well."""
    return msgspec.msgpack.encode(valid_fields(chance))


def flipped_bits(chance: random.Random) -> bytes:
    raw = bytearray(valid_payload(chance))
    for _ in range(chance.choice((1, 1, 1, 2, 8, 64))):
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return bytes(raw)


def other_bytes(chance: random.Random) -> bytes:
    raw = bytearray(valid_payload(chance))
    for _ in range(chance.randrange(1, 6)):
        raw[chance.randrange(len(raw))] = chance.choice((0x00, 0x7F, 0x80, 0xC0, 0xC1, 0xFF, chance.randrange(256)))
    return bytes(raw)


def truncated(chance: random.Random) -> bytes:
    raw = valid_payload(chance)
    return raw[: chance.randrange(len(raw))]


def shuffled_parts(chance: random.Random) -> bytes:
    raw = valid_payload(chance)
    start, end = sorted(chance.sample(range(len(raw) + 1), 2))
    part = raw[start:end]
    how = chance.randrange(4)
    if how == 0:
        return raw[:start] + raw[end:]
    if how == 1:
        return raw[:end] + part * chance.randrange(1, 50) + raw[end:]
    if how == 2:
        return part + raw[:start] + raw[end:]
    return raw + chance.randbytes(chance.randrange(1, 100))


def wrong_types(chance: random.Random) -> bytes:
    fields = valid_fields(chance)
    for name in chance.sample(["t", "f", "a", "k", "et", "b"], chance.choice((1, 1, 2, 3))):
        fields[name] = chance.choice(_NASTY)
    return msgspec.msgpack.encode(fields)


def wrong_arguments(chance: random.Random) -> bytes:
    fields = valid_fields(chance)
    fields["a"] = [chance.choice(_NASTY) for _ in range(chance.randrange(6))]
    fields["k"] = {chance.choice(("number", "words", "limits", "", "self", "ctx")): chance.choice(_NASTY)}
    return msgspec.msgpack.encode(fields)


def wrong_extras(chance: random.Random) -> bytes:
    fields = valid_fields(chance)
    name = chance.choice(("timeout", "meta", "unknown", ""))
    fields["b"] = {name: chance.choice(_NASTY)}
    return msgspec.msgpack.encode(fields)


def wrong_fields(chance: random.Random) -> bytes:
    fields = valid_fields(chance)
    for name in chance.sample(sorted(fields), chance.randrange(1, len(fields))):
        del fields[name]
    if chance.random() < 0.5:
        fields[chance.choice(("T", "", "ff", "\x00", "r", "s"))] = chance.choice(_NASTY)
    return msgspec.msgpack.encode(fields)


def keys_that_are_no_text(chance: random.Random) -> bytes:
    fields: dict[Any, Any] = dict(valid_fields(chance))
    for _ in range(chance.randrange(1, 5)):
        fields[chance.choice((chance.randrange(-(2**40), 2**40), chance.random(), chance.randbytes(3), None))] = "x"
    items = list(fields.items())
    chance.shuffle(items)
    return msgspec.msgpack.encode(dict(items))


def huge_lengths(chance: random.Random) -> bytes:
    raw = valid_payload(chance)
    at = chance.randrange(len(raw))
    length = chance.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\xff\xff\xff"))
    return raw[:at] + chance.choice(_HUGE) + length + raw[at + 1 :]


def nested_depth(chance: random.Random) -> bytes:
    depth = chance.choice((10, 200, 1000, 5000, 20_000))
    one = chance.choice((b"\x91", b"\x81\xa1a", b"\xdd\x00\x00\x00\x01"))
    field = chance.choice((b"a", b"k", b"b", b"f", b"t"))
    fields = {"t": None, "f": "echo", "a": [], "k": {}, "et": 0, "b": None}
    head = bytes([0x80 + len(fields)])
    parts = [
        msgspec.msgpack.encode(name)
        + (one * depth + b"\xc0" if name.encode() == field else msgspec.msgpack.encode(value))
        for name, value in fields.items()
    ]
    return head + b"".join(parts)


def not_utf8(chance: random.Random) -> bytes:
    raw = valid_payload(chance)
    name = chance.choice((b"square", b"echo", b"measure", b"text", b"\xa1f", b"\xa2et"))
    return raw.replace(name, name[:-1] + bytes([chance.choice((0x80, 0xC3, 0xFF, 0xED))]))


class Touch:
    """Unpickled, it would leave a file behind: the proof that a pickle was run."""

    path = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (Touch.path, "w")


def pickles(chance: random.Random) -> bytes:
    fields = valid_fields(chance)
    fields["a"] = [Touch()]
    raw = pickle.dumps(fields, protocol=chance.randrange(6))
    return raw if chance.random() < 0.7 else raw[: chance.randrange(len(raw))]


def foreign_bytes(chance: random.Random) -> bytes:
    fields = {name: value for name, value in valid_fields(chance).items() if name not in {"a", "k"}}
    return chance.choice((
        b"", b"\x00", b"nil", b"OK", b"{}", b"\xc1", b"\xff" * 100, b"\xef\xbb\xbf{}", b"GET / HTTP/1.1\r\n\r\n",
        json.dumps(fields).encode(), gzip.compress(valid_payload(chance), mtime=0), json.dumps(fields).encode("utf-16"),
        chance.randbytes(chance.randrange(1, 200)), chance.randbytes(50_000),
    ))  # fmt: skip


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        flipped_bits, other_bytes, truncated, shuffled_parts, wrong_types, wrong_arguments, wrong_extras, wrong_fields,
        keys_that_are_no_text, huge_lengths, nested_depth, not_utf8, pickles, foreign_bytes,
    )
}  # fmt: skip


def mutated(chance: random.Random) -> tuple[str, bytes]:
    """Return the name of a mutation and what it made."""
    name = chance.choice(list(MUTATIONS))
    return name, MUTATIONS[name](chance)
