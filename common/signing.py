"""Signatures of what travels: whoever writes to Redis without a key can make no worker run anything.

Owns the keys, what a signature covers, and how it travels. HMAC-SHA256 with a key of its own for jobs, for results, for
progress, for items of streams and for earlier attempts, each derived from the secret, over

    the lengths of id and queue (u32, u32) · job id · queue ("" but for a job) · every byte in front of the signature

so that a payload cannot be used under another id or in another queue, nor a job as a result. On the wire it is the
last entry of the msgpack map, which arq ignores, or stands behind the end of a pickle, where unpickling does not look:

    "sig": bin(key id · u8 length of the key id · 32 bytes of HMAC)

It is looked for at the end of the bytes and checked before anything is decoded. Knows neither maps nor settings' names
but for the words of its errors. docs/security.md says what this promises and what not.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from typing import TYPE_CHECKING

from common.errors import SignatureRefused

if TYPE_CHECKING:
    from common.settings import Settings

__all__ = ["SHORTEST_SECRET", "Keyring", "keyring_of", "read_keys"]

SHORTEST_SECRET = 32
"""Characters. 32 hexadecimal digits hold the 128 bits that are the least for a key today."""

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_MAC = 32
_TAIL = _MAC + 1
_LENGTHS = struct.Struct(">II")


class _Key:
    __slots__ = ("attempt", "item", "job", "mark", "progress", "result")

    def __init__(self, key_id: bytes, secret: bytes) -> None:
        # One key a purpose: what was signed as a job must never pass as a result.
        self.job = hmac.digest(secret, b"barque job 1", hashlib.sha256)
        self.result = hmac.digest(secret, b"barque result 1", hashlib.sha256)
        self.progress = hmac.digest(secret, b"barque progress 1", hashlib.sha256)
        self.item = hmac.digest(secret, b"barque item 1", hashlib.sha256)
        self.attempt = hmac.digest(secret, b"barque attempt 1", hashlib.sha256)
        self.mark = _mark(len(key_id)) + key_id + bytes([len(key_id)])


class Keyring:
    """Signs with the first of several keys and accepts each of them.

    Args:
        keys: ids and secrets, from `read_keys`.
        accept_unsigned: let pass what has no signature at all, while a fleet moves over. A wrong one never passes.
    """

    __slots__ = ("_first", "_keys", "accept_unsigned")

    def __init__(self, keys: dict[str, str], *, accept_unsigned: bool = False) -> None:
        self._keys = {name.encode(): _Key(name.encode(), secret.encode()) for name, secret in keys.items()}
        self._first = next(iter(self._keys.values()))
        self.accept_unsigned = accept_unsigned

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(name.decode() for name in self._keys)}>"

    def __reduce__(self) -> str:
        raise TypeError("a Keyring holds secrets and is not pickled")

    def seal_job(self, raw: bytes, job_id: str, queue: str) -> bytes:
        """Return a job's payload with a signature that holds under this id and in this queue alone."""
        return self._seal(self._first.job, raw, job_id, queue)

    def seal_result(self, raw: bytes, job_id: str) -> bytes:
        """Return a result with a signature that holds for this job alone."""
        return self._seal(self._first.result, raw, job_id, "")

    def check_job(self, raw: bytes, job_id: str, queue: str) -> None:
        """Return if a key of ours signed this payload for this id and queue.

        Raises:
            SignatureRefused: it has no signature, or one that does not fit; the message says which and what to do.
        """
        key = self._key_of(raw, "payload")
        if key is not None and not _fits(key.job, raw, job_id, queue):
            raise SignatureRefused(
                "the payload's signature does not fit: it was changed, or signed for another job id or queue, or "
                "with another secret under the same key id. Compare BARQUE_SIGNING_KEYS on both sides"
            )

    def check_result(self, raw: bytes, job_id: str) -> None:
        """Return if a key of ours signed this result for this job.

        Raises:
            SignatureRefused: see `check_job`.
        """
        key = self._key_of(raw, "result")
        if key is not None and not _fits(key.result, raw, job_id, ""):
            raise _does_not_fit("the result")

    def seal_progress(self, raw: bytes, job_id: str) -> bytes:
        """Return what a job says of how far it is, with a signature that holds for this job alone."""
        return self._seal(self._first.progress, raw, job_id, "")

    def check_progress(self, raw: bytes, job_id: str) -> None:
        """Return if a key of ours signed this progress for this job.

        Raises:
            SignatureRefused: see `check_job`.
        """
        key = self._key_of(raw, "progress")
        if key is not None and not _fits(key.progress, raw, job_id, ""):
            raise _does_not_fit("the progress")

    def seal_item(self, raw: bytes, job_id: str) -> bytes:
        """Return an item of a job's stream with a signature that holds for this job alone."""
        return self._seal(self._first.item, raw, job_id, "")

    def check_item(self, raw: bytes, job_id: str) -> None:
        """Return if a key of ours signed this item for this job.

        Raises:
            SignatureRefused: see `check_job`.
        """
        key = self._key_of(raw, "item")
        if key is not None and not _fits(key.item, raw, job_id, ""):
            raise _does_not_fit("the item")

    def seal_attempt(self, raw: bytes, job_id: str) -> bytes:
        """Return what a job's history says of an attempt, with a signature that holds for this job alone."""
        return self._seal(self._first.attempt, raw, job_id, "")

    def check_attempt(self, raw: bytes, job_id: str) -> None:
        """Return if a key of ours signed this attempt of this job.

        Raises:
            SignatureRefused: see `check_job`.
        """
        key = self._key_of(raw, "attempt")
        if key is not None and not _fits(key.attempt, raw, job_id, ""):
            raise _does_not_fit("the attempt")

    def _seal(self, key: bytes, raw: bytes, job_id: str, queue: str) -> bytes:
        body = _one_entry_more(raw) + self._first.mark
        return body + hmac.digest(key, _context(job_id, queue) + body, hashlib.sha256)

    def _key_of(self, raw: bytes, what: str) -> _Key | None:
        """Return the key that the bytes say they are signed with; None for unsigned ones that may pass."""
        name = _signer(raw)
        if name is None:
            if self.accept_unsigned:
                return None
            writer = "enqueued" if what == "payload" else "run"
            raise SignatureRefused(
                f"the {what} is not signed, and BARQUE_SIGNING_KEYS is set here. Set it where the job is "
                f"{writer} (stock arq cannot sign), or, while moving over, BARQUE_ACCEPT_UNSIGNED=true here"
            )
        key = self._keys.get(name)
        if key is None:
            shown = name.decode("ascii", "replace")
            called = f"the key {shown!r}" if _KEY_ID.fullmatch(shown) else "a key"
            raise SignatureRefused(
                f"the {what} is signed with {called}, which is not in BARQUE_SIGNING_KEYS here. If it is one of yours, "
                "add it: all keys that are listed are accepted, the first signs"
            )
        return key


def _does_not_fit(what: str) -> SignatureRefused:
    return SignatureRefused(
        f"{what}'s signature does not fit: it was changed, or signed for another job, or with another secret under "
        "the same key id. Compare BARQUE_SIGNING_KEYS on both sides"
    )


def read_keys(text: str) -> dict[str, str]:
    """Return the secrets by key id, in the order of `id:secret,id:secret,…`.

    Raises:
        ValueError: a key has no id, a bad one, another's, or a secret that is short or another's. The message counts
            the keys and quotes nothing: what stands in the wrong place may be the secret.
    """
    if not text.strip():
        raise ValueError("it is empty: give id:secret, or take the variable away")
    parts = [part.strip() for part in text.split(",")]
    keys: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        key_id, colon, secret = part.partition(":")
        complaint = None
        if not colon or not _KEY_ID.fullmatch(key_id):
            complaint = "has no id: give id:secret, the id of 1 to 32 letters, digits, - and _"
        elif len(secret) < SHORTEST_SECRET:
            complaint = f"is too short: give {SHORTEST_SECRET} characters or more, such as `openssl rand -hex 32` makes"
        elif key_id in keys:
            complaint = "has the id of a key before it: give each its own"
        elif secret in keys.values():
            complaint = "has the secret of a key before it: make a new one"
        if complaint is not None:
            raise ValueError(f"key {number} of {len(parts)} {complaint}")
        keys[key_id] = secret
    return keys


def keyring_of(settings: Settings) -> Keyring | None:
    """Return what signs and checks in this process; None where no keys are set, and nothing is signed."""
    if settings.signing_keys is None:
        return None
    keys = read_keys(settings.signing_keys.get_secret_value())
    return Keyring(keys, accept_unsigned=settings.accept_unsigned)


def _mark(length: int) -> bytes:
    return b"\xa3sig\xc4" + bytes([length + _TAIL])


def _signer(raw: bytes) -> bytes | None:
    """Return the id of the key the bytes say they are signed with, None if they end in no signature."""
    if len(raw) < _TAIL:
        return None
    length = raw[-_TAIL]
    start = len(raw) - _TAIL - length
    mark = _mark(length) if length <= 0xFF - _TAIL else b""
    if not mark or start < len(mark) or not raw.startswith(mark, start - len(mark)):
        return None
    return raw[start:-_TAIL]


def _fits(key: bytes, raw: bytes, job_id: str, queue: str) -> bool:
    expected = hmac.digest(key, _context(job_id, queue) + raw[:-_MAC], hashlib.sha256)
    return hmac.compare_digest(expected, raw[-_MAC:])


def _context(job_id: str, queue: str) -> bytes:
    # Ids are any bytes an arq producer cares to use, decoded so that they come back unchanged.
    id_bytes, queue_bytes = job_id.encode(errors="surrogateescape"), queue.encode(errors="surrogateescape")
    return _LENGTHS.pack(len(id_bytes), len(queue_bytes)) + id_bytes + queue_bytes


def _one_entry_more(raw: bytes) -> bytes:
    """Return a msgpack map whose head counts one entry more than follow; anything else, a pickle, as it is."""
    first = raw[0]
    if 0x81 <= first < 0x8F:
        return bytes([first + 1]) + raw[1:]
    if first == 0x8F:
        return b"\xde\x00\x10" + raw[1:]
    if first == 0xDE:
        return b"\xde" + (int.from_bytes(raw[1:3]) + 1).to_bytes(2) + raw[3:]
    return raw
