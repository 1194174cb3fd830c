"""Signatures of outgoing webhooks, as Standard Webhooks 1.0 defines them.

Owns the reading of secrets and the three headers. Sends nothing.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from urllib.parse import quote

from common.errors import ConfigurationError
from common.settings import settings_for_process

__all__ = ["signed_headers", "signing_keys"]

_VARIABLE = "BARQUE_WEBHOOK_SECRET"


def signing_keys(name: str | None) -> list[bytes]:
    """Return the keys to sign with.

    Args:
        name: which secret: `acme` reads the environment variable `BARQUE_WEBHOOK_SECRET_ACME`, so that a job
            names a secret without holding it, and can name nothing else of the environment. None takes
            `BARQUE_WEBHOOK_SECRET`.

    Returns:
        One key, or while a secret is being replaced all of them: the variable may hold several, apart by
        spaces, and a receiver accepts the message if any fits.

    Raises:
        ConfigurationError: the variable is not set, or is not `whsec_` and base64.
    """
    if name is None:
        variable = _VARIABLE
        setting = settings_for_process().webhook_secret
        text = setting.get_secret_value() if setting else ""
    else:
        if not name.isascii() or not name.replace("_", "").isalnum():
            raise ConfigurationError(f"secret {name!r}: a name has letters, digits and underscores")
        variable = f"{_VARIABLE}_{name.upper()}"
        text = os.environ.get(variable, "")
    if not text.split():
        raise ConfigurationError(f"no secret to sign the webhook with: set {variable}=whsec_…")
    return [_key(secret, variable) for secret in text.split()]


def signed_headers(keys: list[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that let the receiver check who sent the body, and when.

    Args:
        keys: from `signing_keys`.
        message_id: the same for every attempt, so that the receiver can tell a repeat.
        timestamp: Unix seconds of this attempt; receivers refuse old ones.
        body: exactly the bytes that are sent.
    """
    name = quote(message_id, safe=":@+=~/")  # a job id may be any text; a header may not
    signed = f"{name}.{timestamp}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": name,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _key(secret: str, variable: str) -> bytes:
    encoded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        key = b""
    if encoded == secret or not key:
        raise ConfigurationError(f"{variable} must be whsec_ followed by base64")  # never the value itself
    return key
