"""Who asks: a person who signed in, a program with a token, or anybody on this machine.

Owns the word and where it stands in a request. How it is found out is security/access.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.requests import HTTPConnection

__all__ = ["Visitor", "is_known", "set_visitor", "visitor_of"]

_VISITOR = "barque.visitor"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks.

    Attributes:
        name: as they signed in; "" where nobody has to.
        way: how: nobody has to on loopback without a credential, by password, by token, or a proxy said so.
    """

    name: str = ""
    way: Literal["open", "password", "token", "proxy"] = "open"

    @property
    def signature(self) -> str:
        """What is noted as who did something, a pause say."""
        return f"{self.name} (dashboard)" if self.name else "dashboard"


def set_visitor(request: HTTPConnection, visitor: Visitor) -> None:
    """Note who asks."""
    request.scope[_VISITOR] = visitor


def is_known(request: HTTPConnection) -> bool:
    """Whether it has been found out who asks."""
    return _VISITOR in request.scope


def visitor_of(request: HTTPConnection) -> Visitor:
    """Return who asks.

    Raises:
        LookupError: nobody has found that out: the request did not pass the gate.
    """
    found: Visitor | None = request.scope.get(_VISITOR)
    if found is None:
        raise LookupError("a request that did not pass the gate")
    return found
