"""What became of an action, said once on the page that follows it.

Owns the cookie it travels in: who acted is sent on to another page, and no other program is in between. It is not
signed: a browser can make up a notice only for itself.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response

__all__ = ["Notice", "forget", "give", "read"]

_COOKIE = "barque_said"
_LONGEST = 3500
"""Characters once it is quoted: browsers keep about 4 KB in a cookie."""


class Notice(NamedTuple):
    """What became of an action.

    Attributes:
        tone: how it looks: good, bad or plain.
        then: the address to go on to; "" goes back to where the form was.
    """

    text: str
    tone: str = "good"
    then: str = ""


def give(request: Request, response: Response, notice: Notice) -> None:
    """Have this said on the next page that this browser loads."""
    text, most = _quoted(notice.text), len(notice.text)
    while len(text) > _LONGEST:
        most = most * 3 // 4
        text = _quoted(f"{notice.text[:most]}…")
    value = f"{notice.tone}:{text}"
    path, secure = _place(request)
    response.set_cookie(_COOKIE, value, max_age=60, path=path, secure=secure, httponly=True, samesite="strict")


def read(request: Request) -> Notice | None:
    """Return what is to be said on this page."""
    tone, _, text = request.cookies.get(_COOKIE, "").partition(":")
    if tone not in {"good", "bad", "plain"} or not text:
        return None
    return Notice(unquote(text), tone)


def forget(request: Request, response: Response) -> None:
    """Have it said no more."""
    if _COOKIE in request.cookies:
        path, secure = _place(request)
        response.delete_cookie(_COOKIE, path=path, secure=secure, httponly=True, samesite="strict")


def _quoted(text: str) -> str:
    return quote(text.encode(errors="backslashreplace"), safe="")


def _place(request: Request) -> tuple[str, bool]:
    """Return for which path the cookie is, and whether for encrypted connections alone."""
    return request.scope.get("root_path") or "/", request.url.scheme == "https"
