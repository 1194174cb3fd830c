"""What an error of the server or the network means, in one line, and what to do about it.

Owns the translation from redis-py's, the socket's and TLS's errors to words. Knows no settings and
opens nothing. Text that came over the wire is quoted only where Redis itself is known to have
written it: what else answers on a port may say anything.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator

from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.sentinel import MasterNotFoundError

__all__ = ["TROUBLE", "UNAVAILABLE", "ServerError", "is_transient", "may_have_run", "may_pass", "reason"]

UNAVAILABLE: tuple[type[Exception], ...] = (
    exceptions.ConnectionError,  # refused, closed, no sentinel, wrong password, still loading
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,  # a fail-over has made this server a replica
    exceptions.InvalidResponse,  # bytes lost on the way; the connection is dropped
    OSError,
)
"""Errors that say nothing about the command: the server could not be reached, or could not take it now."""

ServerError = exceptions.ResponseError
"""The server took the command and refused it."""

TROUBLE: tuple[type[Exception], ...] = (*UNAVAILABLE, ServerError)
"""All that a call to Redis may end with, for a loop that goes on whatever it is."""

_TRANSIENT_CODES = (
    "MASTERDOWN",
    "NOREPLICAS",
    "MISCONF",
    "BUSY",
    "UNBLOCKED",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "OOM",
)


def is_transient(error: BaseException) -> bool:
    """Tell whether the same command may succeed later, with nobody changing the command.

    True for all of `UNAVAILABLE` and for refusals that pass: out of memory, a disk that cannot be
    written, too few replicas, a script that blocks the server, a blocking pop ended by a fail-over.
    """
    if isinstance(error, (*UNAVAILABLE, exceptions.OutOfMemoryError)):
        return True
    return isinstance(error, ServerError) and str(error).startswith(_TRANSIENT_CODES)


def may_have_run(error: BaseException) -> bool:
    """Tell whether it is unknown, after this error, if the server ran the command: the connection broke in between."""
    return isinstance(error, UNAVAILABLE) and not isinstance(error, ServerError) and _was_closed(error)


_LASTING = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.InvalidResponse,  # of a server that was never reached: it is none
    ssl.SSLError,
    PermissionError,
)


def may_pass(error: BaseException) -> bool:
    """Tell whether a server that was not reached may be there in a moment, with nobody changing a setting.

    It may for one that is starting, loading, failing over, or has too many clients; not for one that refuses us.
    """
    for link in _chain(error):
        if isinstance(link, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):  # it went away in the middle of a handshake
            continue
        if isinstance(link, _LASTING) or (isinstance(link, ServerError) and not is_transient(link)):
            return False
        if isinstance(link, (MasterNotFoundError, AsyncMasterNotFoundError)) and _REFUSED_BY_SENTINEL.search(str(link)):
            return False
    return True


_REFUSED_BY_SENTINEL = re.compile("AuthenticationError|NoPermissionError")


def reason(error: BaseException) -> tuple[str, str]:
    """Return why the server cannot be used and what to do about it: two clauses without a full stop.

    Args:
        error: what redis-py raised; what it was raised from is looked at too.
    """
    chain = list(_chain(error))
    for explain in (_explain_tls, _explain_server, _explain_sentinel, _explain_network):
        for link in chain:
            found = explain(link)
            if found is not None:
                return found
    return f"{type(error).__name__}", "run `barque doctor` for a closer look"


def _chain(error: BaseException) -> Iterator[BaseException]:
    # redis-py raises ConnectionError inside `except OSError` without `from`: the cause is the context.
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _explain_tls(error: BaseException) -> tuple[str, str] | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the server's certificate is not accepted: {error.verify_message.rstrip('.')}",
            "set BARQUE_REDIS_TLS_CA to the authority that signed it, and use the host name it is made out to",
        )
    if not isinstance(error, ssl.SSLError):
        return None
    # One that Python's own ssl or asyncio raised, rather than OpenSSL, has no reason.
    code = getattr(error, "reason", None) or "no reason given"
    if "WRONG_VERSION_NUMBER" in code or "RECORD_LAYER" in code:
        return "what answers there does not speak TLS", "use redis:// instead of rediss://, or the TLS port"
    if "ALERT" in code and ("CERT" in code or "HANDSHAKE" in code or "UNKNOWN_CA" in code):
        return (
            f"the server refuses the TLS handshake ({code})",
            "it may want a client certificate: set BARQUE_REDIS_TLS_CERT and BARQUE_REDIS_TLS_KEY",
        )
    return f"TLS failed ({code})", "compare the server's TLS settings with BARQUE_REDIS_TLS_*"


def _explain_server(error: BaseException) -> tuple[str, str] | None:
    text = _first_line(error)
    if isinstance(error, exceptions.AuthenticationError):
        return _explain_authentication(text)
    if isinstance(error, exceptions.NoPermissionError) or any(said in text.lower() for said in _REFUSED_IN_SCRIPTS):
        return f"the ACL user may not do this: {text}", _missing_right(text)
    if isinstance(error, exceptions.BusyLoadingError):
        return "the server is still loading its data from disk", "wait until it has, and try again"
    if isinstance(error, exceptions.ReadOnlyError):
        return "the server is a read-only replica", "give the address of the primary, or of the sentinels"
    if isinstance(error, exceptions.InvalidResponse):
        return "what answers there is not a Redis server", "check host and port in BARQUE_REDIS_URL"
    if text.startswith("max number of clients"):
        return "the server has as many clients as it allows", "raise its maxclients, or close some"
    if isinstance(error, exceptions.ResponseError):
        return _explain_refusal(text)
    return None


_REFUSED_IN_SCRIPTS = ("acl failure in script", "the user executing the script can't")
"""How servers begin when a script of ours calls what its user may not."""


def _missing_right(text: str) -> str:
    """Return how to grant what a server says is missing; older servers do not say which command or key it was."""
    command = re.search(r"run the '([\w|-]+)' command", text)
    if command is not None:
        right = f"+{command[1]}"
    elif "channel" in text:
        right = "&barque:*"
    elif "key" in text:
        right = "~arq:* ~barque:*, and a ~pattern for each queue whose name begins otherwise"
    else:
        return "`barque doctor --acl` prints what a worker and a producer need"
    return f"grant it with ACL SETUSER <user> {right} (`barque doctor --acl` prints all that is needed)"


def _explain_authentication(text: str) -> tuple[str, str]:
    # Both "without any password configured" wordings are the server's (before and since 6.0).
    if "no password is set" in text or "without any password configured" in text:
        return "a password was given, but the server has none set", "remove the password, or set one there"
    if "required" in text.lower():
        return (
            "the server wants a password",
            "set BARQUE_REDIS_PASSWORD, or redis://user:password@… in BARQUE_REDIS_URL",
        )
    return (
        "the server does not accept this user and password",
        "check BARQUE_REDIS_USERNAME, BARQUE_REDIS_PASSWORD and BARQUE_REDIS_URL",
    )


def _explain_refusal(text: str) -> tuple[str, str]:
    if text.startswith("DENIED"):
        return (
            "the server is in protected mode and takes no connections from other hosts",
            "set a password on it (requirepass), then BARQUE_REDIS_PASSWORD here",
        )
    if "DB index" in text or "invalid DB" in text:
        return "the server has no database of that number", "use a smaller one; a cluster has only 0"
    if "unknown command" in text.lower() and "sentinel" in text.lower():
        return (
            "what answers there is a Redis server, not a sentinel",
            "check BARQUE_REDIS_SENTINELS (a sentinel's own port is 26379)",
        )
    if "unknown command" in text.lower():
        # The rest of that message quotes the arguments.
        return "the server does not know a command Barque needs", "use Valkey, or Redis 6.2 or newer"
    return f"the server refuses: {text}", "see the server's log"


def _explain_sentinel(error: BaseException) -> tuple[str, str] | None:
    if not isinstance(error, (MasterNotFoundError, AsyncMasterNotFoundError)):
        return None
    text = str(error)
    if _REFUSED_BY_SENTINEL.search(text):
        return (
            "a sentinel refuses our credentials",
            "check BARQUE_REDIS_SENTINEL_USERNAME and BARQUE_REDIS_SENTINEL_PASSWORD",
        )
    if "ConnectionError" in text or "TimeoutError" in text:
        return "no sentinel that answers knows a primary of this name", "check BARQUE_REDIS_SENTINELS"
    return (
        "the sentinels know no working primary of this name",
        "check BARQUE_REDIS_SENTINEL_SERVICE, and `SENTINEL masters` on a sentinel",
    )


def _explain_network(error: BaseException) -> tuple[str, str] | None:
    start = "start a server there (`barque redis` starts one here), or set BARQUE_REDIS_URL"
    match error:
        case socket.gaierror():
            return "the host name does not resolve", "check the host in BARQUE_REDIS_URL"
        case ConnectionRefusedError():
            return "connection refused: nothing listens there", start
        case FileNotFoundError():
            return "there is no such socket", start
        case PermissionError():
            return "this user may not open the socket", "check the socket's permissions (unixsocketperm)"
        case TimeoutError() | exceptions.TimeoutError():
            return (
                "no answer in time",
                "check host, port and firewall, and that both sides agree on TLS (rediss://) or none",
            )
        case ConnectionError() | exceptions.ConnectionError() if _was_closed(error):
            return "the connection was closed at once", "a server that wants TLS needs rediss://"
        case OSError():
            return f"{error.strerror or type(error).__name__}", start
    return None


def _was_closed(error: BaseException) -> bool:
    if isinstance(error, ConnectionError):
        return True
    text = str(error).lower()
    return "closed" in text or "while reading" in text or "while writing" in text


def _first_line(error: BaseException) -> str:
    # redis-py quotes the command of a pipeline in front, and so its arguments.
    _, quoted, text = str(error).rpartition(" of pipeline caused error: ")
    if quoted:
        text = text.strip("(),'\"")
    return "".join(mark if mark.isprintable() else " " for mark in text.split("\n", 1)[0][:200]).strip()
