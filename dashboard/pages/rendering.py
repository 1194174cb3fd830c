"""How a page is made: a template, what every page needs, and a form that is read.

Owns jinja2. What a page shows stands in its own module; what streams are made of it, in view.py.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from common.settings import mask_url
from dashboard.context import dashboard_of
from dashboard.pages import notices, words
from dashboard.pages.charts import as_points
from dashboard.routing import path_to
from dashboard.visitor import visitor_of

__all__ = ["THEME", "TOKEN", "address_of", "page", "read_form", "regions", "request_address"]

THEME = "barque_theme"
"""The cookie that says how the pages look."""

TOKEN = "@csrf-token@"  # noqa: S105 - it stands for one
"""What stands in a region for the token of its viewer: what is drawn is shared by all of them."""

_LIVE = "live_"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=words.harmless,
    )
    for name in ("age", "bytes_size", "count", "exact", "milliseconds", "percent", "rate", "short_id"):
        environment.filters[name] = getattr(words, name)
    environment.filters["ago"] = _ago
    environment.filters["points"] = as_points
    environment.filters["short_error"] = lambda error: words.short_error(error.type, error.message)
    # Late, as its macros use the filters; as a global, as regions are drawn without the page around them.
    environment.globals["ui"] = environment.get_template("ui.html").module
    return environment


def page(
    request: Request, template: str, context: Mapping[str, Any] | None = None, *, status: int = 200
) -> HTMLResponse:
    """Return a page.

    Args:
        template: its name below `templates/`.
        context: what it shows, besides what each page has; see `_every`.
    """
    dashboard = dashboard_of(request)
    shown = {**_every(request), "csrf_token": dashboard.csrf.token(request), **(context or {})}
    shown |= {"said": notices.read(request)}
    html = _environment().get_template(template).render(shown)
    # What no filter saw, the name of a template's block say, is no reason for a page not to come.
    response = HTMLResponse(html.encode(errors="backslashreplace"), status)
    notices.forget(request, response)
    dashboard.csrf.remember(request, response)
    return response


def regions(request: Request, template: str, context: Mapping[str, Any]) -> dict[str, str]:
    """Return the regions of a page by name, with `TOKEN` where a form has its token."""
    found: dict[str, str] = {}
    for source in (_environment().get_template("layout.html"), _environment().get_template(template)):
        shown = source.new_context({**_every(request), "csrf_token": TOKEN, "said": None, **context})
        for name, block in source.blocks.items():
            if name.startswith(_LIVE):
                html = "".join(block(shown))
                found[name.removeprefix(_LIVE)] = html.encode(errors="backslashreplace").decode()
    return found


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form (urlencoded), the last of each name."""
    text = (await request.body()).decode(errors="replace")
    return {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}


def request_address(request: Request) -> str:
    """Return the path and query of a request, as they were sent."""
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    query = request.scope["query_string"].decode("latin-1")
    return raw.partition(b"?")[0].decode("latin-1") + (f"?{query}" if query else "")


def address_of(root: str, path: str, query: Mapping[str, Any] | None = None, **parameters: str) -> Markup:
    """Return an address of this dashboard.

    Args:
        path: of a route, whose parameters are `parameters`.
        query: what stands behind the question mark; what is empty is left out.
    """
    asked = "&".join(f"{name}={words.address(str(value))}" for name, value in (query or {}).items() if value)
    return Markup(root + path_to(path, **parameters) + (f"?{asked}" if asked else ""))  # noqa: S704 - all of it is quoted


def _every(request: Request) -> dict[str, Any]:
    """Return what each page has: links, who looks at it, and what stands around what it is about."""
    dashboard = dashboard_of(request)
    return {
        "link": functools.partial(address_of, request.scope.get("root_path", "")),
        "read_only": dashboard.settings.read_only,
        "visitor": visitor_of(request),
        "theme": theme if (theme := request.cookies.get(THEME)) in {"light", "dark"} else "system",
        "server": mask_url(dashboard.source.settings.redis_url),
        "back": request_address(request) if request.method == "GET" else "",
        "stream": "",
        "away": None,
        "look": None,
        "here": "",
        "now_ms": round(time.time() * 1000),
    }


@jinja2.pass_context
def _ago(context: jinja2.runtime.Context, when: datetime | float | None) -> str | Markup:
    """Return a time as how long ago it was, or in how long it will be, with the exact one in its title."""
    if when is None:
        return words.NONE
    at = when if isinstance(when, datetime) else datetime.fromtimestamp(when / 1000, tz=UTC)
    look = context["look"]
    now_ms = context["now_ms"] if look is None else look.now_ms
    at_ms = round(at.timestamp() * 1000)
    seconds = (now_ms - at_ms) / 1000
    said = f"{words.age(seconds)} ago" if seconds >= 0 else f"in {words.age(-seconds)}"
    exact = words.exact(at)
    return Markup('<time datetime="{}" title="{}" data-ms="{}">{}</time>').format(at.isoformat(), exact, at_ms, said)
