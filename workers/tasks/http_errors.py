"""What can go wrong over HTTP, and what each failure means for a retry.

    HttpError
    ├── InvalidRequest         the URL, method or a header cannot be sent              not retried
    ├── ForbiddenAddress       the host is, or resolves to, an address out of bounds   not retried
    ├── TooManyRedirects       the redirects did not end                               not retried
    ├── BodyTooLarge           the body is over the limit                              not retried
    ├── HttpStatusError        the answer is final: 4xx, or a redirect not followed    not retried
    ├── HttpUnavailable        408, 425, 429 or 5xx: later may be better               retried
    ├── HttpConnectionError    no connection, or it broke                              retried
    │   └── HttpTimeout        no complete answer in time (a TimeoutError)             retried
    ├── ChecksumMismatch       what arrived is not what was expected                   retried
    └── DownloadBusy           another attempt is writing the same file                retried

Owns the tree and the masking of URLs. Opens no connection. How long a `Retry-After` has a job wait is the retry
policy's to say: the error carries it.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from common.errors import BarqueError, ConfigurationError
from common.retry_after import read_retry_after

__all__ = [
    "NOT_RETRIED",
    "BodyTooLarge",
    "ChecksumMismatch",
    "DownloadBusy",
    "ForbiddenAddress",
    "HttpConnectionError",
    "HttpError",
    "HttpStatusError",
    "HttpTimeout",
    "HttpUnavailable",
    "InvalidRequest",
    "TooManyRedirects",
    "check_status",
    "masked",
]

_WORTH_ANOTHER_TRY = frozenset({408, 425, 429})


class HttpError(BarqueError):
    """The root of what the HTTP tasks raise."""


class InvalidRequest(HttpError):
    """The URL, the method or a header cannot be sent; the message says which and why."""


class ForbiddenAddress(HttpError):
    """The host is, or resolves to, an address that HTTP tasks may not reach."""


class TooManyRedirects(HttpError):
    """The server kept redirecting."""


class BodyTooLarge(HttpError):
    """The body, once decompressed, is over the limit."""


class HttpStatusError(HttpError):
    """The server's answer is final.

    Attributes:
        status: the HTTP status, such as 404.
        url: where it came from, masked.
    """

    def __init__(self, message: str, *, status: int, url: str) -> None:
        super().__init__(message)
        self.status = status
        self.url = url


class HttpUnavailable(HttpError):
    """The server cannot answer now: 408, 425, 429 or 5xx.

    Attributes:
        status: the HTTP status, such as 503.
        url: where it came from, masked.
        retry_after: seconds for which the server asked to be left alone, if it did.
    """

    def __init__(self, message: str, *, status: int, url: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.url = url
        self.retry_after = retry_after


class HttpConnectionError(HttpError):
    """No connection could be made, or it broke before the answer was complete."""


class HttpTimeout(HttpConnectionError, TimeoutError):
    """No complete answer came in time."""


class ChecksumMismatch(HttpError):
    """A download is complete, but is not what the caller expected."""


class DownloadBusy(HttpError):
    """Another attempt, on this machine, is writing the same file."""


NOT_RETRIED: tuple[type[BaseException], ...] = (
    InvalidRequest,
    ForbiddenAddress,
    TooManyRedirects,
    BodyTooLarge,
    HttpStatusError,
    ConfigurationError,
)
"""For `RetryPolicy(fail_on=…)`: the same request would fail the same way."""


def check_status(status: int, headers: Mapping[str, str], *, method: str, url: str) -> None:
    """Return for a status below 400; raise what the others mean for a retry.

    Raises:
        HttpUnavailable: 408, 425, 429 or 5xx; it carries what `Retry-After` asks for.
        HttpStatusError: any other 4xx.
    """
    if status < 400:
        return
    place = masked(url)
    message = f"{method} {place}: the server answered {status}"
    if status < 500 and status not in _WORTH_ANOTHER_TRY:
        raise HttpStatusError(message, status=status, url=place)
    wait = read_retry_after(headers.get("Retry-After"))
    asked = "" if wait is None else f", and asked to wait {wait:g} s"
    raise HttpUnavailable(f"{message}{asked}", status=status, url=place, retry_after=wait)


def masked(url: str) -> str:
    """Return the URL fit for a log: without user, password and fragment, its query as `…`.

    Of what is no URL with a host nothing is shown: a password with an unescaped / ? or # in it looks like that.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for what is no number, such as the beginning of a password
    except ValueError:
        return "(a URL that cannot be read)"
    host = parts.netloc.rpartition("@")[2]
    if not host:
        return "(a URL without a host)"
    return urlunsplit((parts.scheme, host, parts.path, "…" if parts.query else "", ""))
