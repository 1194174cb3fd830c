"""Routes whose parameters are any bytes: ids of jobs and names of queues as they are, slashes and all.

Owns how a path is taken apart and put together. Starlette matches the decoded path, in which the id `a/b` is two
segments and a byte that is no UTF-8 is lost; these routes match what was sent, segment by segment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from starlette.routing import Match, Route
from starlette.types import Scope

__all__ = ["ExactRoute", "path_to", "segment"]

_ANY = "surrogateescape"


class ExactRoute(Route):
    """A route such as `/jobs/{job_id}/abort`, whose parameters come percent-encoded, one segment each.

    Args:
        path: segments, those in braces are parameters. None of them is empty.
        endpoint, methods, name: as of Starlette's `Route`.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        methods: Collection[str] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(path, endpoint, methods=methods, name=name)
        self._segments = path.split("/")

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether a request is for this route, and what its parameters are."""
        if scope["type"] != "http":
            return Match.NONE, {}
        parameters = self._read(_raw_path(scope).split(b"/"))
        if parameters is None:
            return Match.NONE, {}
        child = {"endpoint": self.endpoint, "path_params": parameters}
        allowed = not self.methods or scope["method"] in self.methods
        return (Match.FULL if allowed else Match.PARTIAL), child

    def _read(self, given: list[bytes]) -> dict[str, str] | None:
        if len(given) != len(self._segments):
            return None
        found = {}
        for raw, wanted in zip(given, self._segments, strict=True):
            if not wanted.startswith("{"):
                if raw != wanted.encode():
                    return None
            elif raw:
                found[wanted[1:-1]] = unquote_to_bytes(raw).decode(errors=_ANY)
            else:
                return None
        return found


def segment(text: str) -> str:
    """Return a parameter as it stands in a path."""
    quoted = quote(text.encode(errors=_ANY), safe=":@")
    # Browsers and proxies take these two for "here" and "one up", encoded or not: such an id cannot be linked to.
    return quoted.replace(".", "%2E") if quoted in {".", ".."} else quoted


def path_to(template: str, **parameters: str) -> str:
    """Return a path of a route: `path_to("/jobs/{job_id}", job_id=…)`."""
    return template.format_map({name: segment(value) for name, value in parameters.items()})


def _raw_path(scope: Scope) -> bytes:
    """Return the path as it was sent, without the prefix of the application."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    root = scope.get("root_path", "").encode()
    return raw.removeprefix(root) if root and raw.startswith(root + b"/") else raw
