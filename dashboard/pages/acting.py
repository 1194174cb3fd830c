"""What a form of a page does: act, and go on to a page that says what became of it.

Owns the order of that, for all actions. What an action does stands with its page; that whoever sent the form may act,
and meant to, was checked before (security/gate.py). Nothing here needs a script: a form is sent, its answer is a
redirect, and the page it leads to says what happened.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from common.errors import BarqueError, RedisUnavailable
from dashboard.pages import notices
from dashboard.pages.notices import Notice
from dashboard.pages.rendering import THEME, read_form
from dashboard.pages.view import View
from dashboard.visitor import visitor_of
from producer import Producer

__all__ = ["Act", "Asked", "action", "change_theme", "local"]

_LOCAL = re.compile(r"/(?![/\\])[!-~]*")
"""An address of this site: no other host, no control character."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An action that somebody asked for.

    Attributes:
        form: its fields, without spaces around what was typed.
        by: who asks, as it is noted.
    """

    producer: Producer
    view: View
    form: Mapping[str, str]
    by: str


Act = Callable[[Asked], Awaitable[Notice]]


def action(act: Act) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a form that changes something.

    Args:
        act: acts, and returns what became of it. What it raises of ours is said as it is.
    """

    async def endpoint(request: Request) -> Response:
        view = View.of(request)
        form = {name: value.strip() for name, value in (await read_form(request)).items()}
        try:
            asked = Asked(await view.dashboard.source.producer(), view, form, visitor_of(request).signature)
            notice = await act(asked)
        except RedisUnavailable as error:
            notice = Notice(f"It is not known to have been done: {error}", "bad")
        except BarqueError as error:
            notice = Notice(str(error), "bad")
        view.dashboard.watch.look_anew()
        response = RedirectResponse(local(request, notice.then or form.get("back", "")), 303)
        notices.give(request, response, notice)
        return response

    return endpoint


async def change_theme(request: Request) -> Response:
    """Have the pages look as somebody likes; that changes nothing but a cookie of their own."""
    view = View.of(request)
    response = RedirectResponse(local(request, view.query.get("back", "")), 303)
    path, secure = request.scope.get("root_path") or "/", request.url.scheme == "https"
    wanted = view.query.get("theme", "")
    if wanted in {"light", "dark"}:
        response.set_cookie(THEME, wanted, max_age=365 * 24 * 3600, path=path, secure=secure, samesite="strict")
    else:
        response.delete_cookie(THEME, path=path, secure=secure, samesite="strict")
    return response


def local(request: Request, wanted: str) -> str:
    """Return an address of this dashboard: the one that is wanted, if it is one; else the overview's."""
    root = request.scope.get("root_path", "")
    return wanted if _LOCAL.fullmatch(wanted) and wanted.startswith(f"{root}/") else f"{root}/"
