"""Tasks over HTTP: fetch a page, download a file, deliver a webhook.

What all three hold to:

- One client session per worker, so that connections are kept and shared.
- Only http and https, and only addresses on the public internet: private, loopback, link-local and reserved
  ones are refused, for literal hosts, after a name is resolved and after every redirect
  (`address_guard.py`), unless `BARQUE_HTTP_ALLOW_PRIVATE` is set.
- Bodies are capped, redirects counted, and credentials stay with the host they were given for.
- No user, password or query of a URL reaches a log line or an error.

Owns the tasks and what they return. The failures and which are retried: `http_errors.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Mapping
from email.message import Message
from typing import Any

import msgspec

from common import Context, RetryPolicy, exponential, task
from common.settings import settings_for_process
from workers.tasks.data_root import FileTooLarge, PathRefused, data_root
from workers.tasks.http_errors import NOT_RETRIED, HttpStatusError, InvalidRequest, check_status, masked
from workers.tasks.webhook_signature import signed_headers, signing_keys

__all__ = ["Delivery", "Download", "Page", "deliver_webhook", "download_file", "fetch_url"]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What `fetch_url` brought back.

    Attributes:
        url: where it came from, after redirects, without user and password.
        status: 200 to 399.
        headers: by lower-case name; repeated ones are joined with ", ".
        body: decompressed.
        sha256: of the body, hexadecimal.
        elapsed_ms: from sending the request to the last byte, redirects included.
    """

    url: str
    status: int
    headers: dict[str, str]
    body: bytes
    sha256: str
    elapsed_ms: float

    @property
    def text(self) -> str:
        """The body as text, by the charset the server named, else UTF-8; what does not fit becomes U+FFFD."""
        content_type = Message()
        content_type["Content-Type"] = self.headers.get("content-type", "")
        try:
            return self.body.decode(content_type.get_content_charset("utf-8"), "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body decoded from JSON; raises `msgspec.DecodeError` if it is none."""
        return msgspec.json.decode(self.body)


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """What `download_file` left on the disk.

    Attributes:
        path: the file, relative to the data root.
        size: bytes.
        sha256: hexadecimal.
        resumed_from: bytes an earlier attempt had fetched; equal to `size` if the file was already there.
        elapsed_ms: of this attempt.
    """

    path: str
    size: int
    sha256: str
    resumed_from: int
    elapsed_ms: float


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """How a webhook was received.

    Attributes:
        webhook_id: what the receiver saw as `webhook-id`; the same on every attempt.
        status: 200 to 299.
        attempt: the number of the attempt that got through, from 1.
        elapsed_ms: from sending the request to the answer.
    """

    webhook_id: str
    status: int
    attempt: int
    elapsed_ms: float


@task(retry=RetryPolicy(fail_on=NOT_RETRIED))
async def fetch_url(
    ctx: Context,
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Page:
    """Fetch a URL, following up to 10 redirects.

    Jobs run at least once, so a method other than GET and HEAD may reach the server twice.

    Args:
        url: http or https; a user and password in it are sent as Basic authorization.
        method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.
        headers: on a redirect to another host only harmless ones go along.
        body: sent as it is; name its type in `headers`.

    Returns:
        The page; its body is at most `BARQUE_HTTP_MAX_BYTES`, decompressed. The result is kept in Redis,
        so for anything large `download_file` is the better task.

    Raises:
        HttpUnavailable: 408, 425, 429 or 5xx. Retried, not before `Retry-After` says.
        HttpConnectionError: no connection, a broken one, or over `BARQUE_HTTP_TIMEOUT` seconds. Retried.
        HttpStatusError: any other 4xx. Not retried.
        ForbiddenAddress: the host, or one redirected to, is not on the public internet. Not retried.
        BodyTooLarge: the body is over the limit. Not retried.
        TooManyRedirects: they did not end. Not retried.
        InvalidRequest: the URL, the method or a header cannot be sent. Not retried.
    """
    from workers.tasks.http_client import Request, http_client  # noqa: PLC0415 - aiohttp is slow to import

    settings = settings_for_process()
    started = time.perf_counter()
    request = Request(
        method.upper(), url, headers or {}, body, total=settings.http_timeout, stall=settings.http_timeout
    )
    async with (await ctx.open(http_client)).send(request) as answer:
        response = answer.response
        check_status(response.status, response.headers, method=method, url=answer.url)
        content = await answer.read(settings.http_max_bytes)
    return Page(
        url=answer.url,
        status=response.status,
        headers={name.lower(): ", ".join(response.headers.getall(name)) for name in response.headers},
        body=content,
        sha256=await _sha256(content),
        elapsed_ms=_since(started),
    )


@task(
    timeout=3600,
    retry=RetryPolicy(
        max_attempts=10, fail_on=(*NOT_RETRIED, PathRefused, FileTooLarge, PermissionError, FileNotFoundError)
    ),
)
async def download_file(
    ctx: Context,
    url: str,
    path: str,
    *,
    sha256: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Download:
    """Download a file to disk. An attempt goes on where the last one broke off, if the server can do that.

    Until it is complete the file is called `<name>.part`; then it takes its name at once. A file that
    changed on the server meanwhile is fetched from the start. One line of progress is logged every few seconds.

    Args:
        url: http or https; a user and password in it are sent as Basic authorization.
        path: where to, relative to the data root; missing folders are made, an existing file is replaced.
        sha256: what the file must be, hexadecimal. If it is already there, nothing is fetched.
        headers: on a redirect to another host only harmless ones go along.

    Returns:
        The file, of at most `BARQUE_HTTP_DOWNLOAD_MAX_BYTES`.

    Raises:
        HttpUnavailable: 408, 425, 429 or 5xx. Retried, not before `Retry-After` says.
        HttpConnectionError: no connection, a broken one, or nothing came for `BARQUE_HTTP_TIMEOUT`
            seconds. Retried; what arrived is kept.
        ChecksumMismatch: it is not the file expected, and is thrown away. Retried.
        DownloadBusy: another attempt on this machine is writing the same file. Retried.
        PathRefused: the path leaves the data root or leads through a link. Not retried.
        HttpStatusError, ForbiddenAddress, BodyTooLarge, TooManyRedirects, InvalidRequest: as
            `fetch_url`. Not retried.
    """
    from workers.tasks.downloads import download  # noqa: PLC0415 - aiohttp is slow to import

    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise InvalidRequest("sha256: give 64 hexadecimal digits")
    started = time.perf_counter()
    present = None if sha256 is None else await asyncio.to_thread(_size_if_present, path, sha256.lower())
    if present is not None and sha256 is not None:
        size, digest, resumed = present, sha256.lower(), present
    else:
        size, digest, resumed = await download(ctx, url, path, headers or {}, sha256)
    return Download(path=path, size=size, sha256=digest, resumed_from=resumed, elapsed_ms=_since(started))


@task(retry=RetryPolicy(max_attempts=15, backoff=exponential(5, factor=3, maximum=6 * 3600), fail_on=NOT_RETRIED))
async def deliver_webhook(
    ctx: Context,
    url: str,
    payload: Any,
    *,
    secret: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Delivery:
    """Deliver a webhook, signed as Standard Webhooks defines it. Tried 15 times, over a day or so.

    The receiver gets `webhook-id` and `Idempotency-Key`, both the job's id and so the same on every attempt,
    `webhook-timestamp` (Unix seconds of the attempt) and `webhook-signature` (`v1,` and base64 of HMAC-SHA256
    over `id.timestamp.body`). A redirect is not followed: it is an error.

    Args:
        url: the receiver's endpoint.
        payload: plain data, sent as JSON; bytes are sent as they are.
        secret: which secret: `acme` reads `BARQUE_WEBHOOK_SECRET_ACME`; None reads
            `BARQUE_WEBHOOK_SECRET`. Several, apart by spaces, all sign.
        headers: more headers; they replace none of the above.

    Raises:
        HttpUnavailable: 408, 425, 429 or 5xx. Retried, not before `Retry-After` says.
        HttpConnectionError: no connection, a broken one, or over `BARQUE_HTTP_TIMEOUT` seconds. Retried.
        HttpStatusError: any other status from 300; 410 means that the endpoint is gone for good. Not retried.
        ConfigurationError: the secret is not set, or is not `whsec_` and base64. Not retried.
        ForbiddenAddress, InvalidRequest: as `fetch_url`. Not retried.
    """
    from workers.tasks.http_client import Request, http_client  # noqa: PLC0415 - aiohttp is slow to import

    if not ctx.job_id:
        raise InvalidRequest("a webhook is named after its job, and this context has no job id")
    content = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    signed = signed_headers(signing_keys(secret), ctx.job_id, int(time.time()), content)
    ours = {"Idempotency-Key": signed["webhook-id"], **signed}
    taken = {name.lower() for name in ours}
    more = {name: value for name, value in (headers or {}).items() if name.lower() not in taken}
    if not any(name.lower() == "content-type" for name in more):
        more["Content-Type"] = "application/json"
    seconds = settings_for_process().http_timeout
    started = time.perf_counter()
    request = Request("POST", url, {**more, **ours}, content, redirects=0, total=seconds, stall=seconds)
    async with (await ctx.open(http_client)).send(request) as answer:
        status = answer.response.status
        _check_received(status, answer.response.headers, url)
    return Delivery(webhook_id=signed["webhook-id"], status=status, attempt=ctx.attempt, elapsed_ms=_since(started))


def _check_received(status: int, headers: Mapping[str, str], url: str) -> None:
    place = masked(url)
    if status == 410:
        raise HttpStatusError(
            f"POST {place}: the endpoint is gone for good (410); stop sending to it", status=status, url=place
        )
    if 300 <= status < 400:
        raise HttpStatusError(
            f"POST {place}: the endpoint has moved ({status}); send to its new address", status=status, url=place
        )
    check_status(status, headers, method="POST", url=url)


async def _sha256(content: bytes) -> str:
    if len(content) < 256 * 1024:
        return hashlib.sha256(content).hexdigest()
    # Tens of milliseconds for a large page, and hashlib lets go of the GIL meanwhile.
    digest = await asyncio.to_thread(hashlib.sha256, content)
    return digest.hexdigest()


def _size_if_present(path: str, sha256: str) -> int | None:
    """Return the size of the file if it is there and is the one expected."""
    try:
        with data_root().reading(path) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell() if found == sha256 else None
    except FileNotFoundError:
        return None


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
