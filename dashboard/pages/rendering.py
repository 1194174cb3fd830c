"""How a page is made: a template, what every page needs, and a form that is read.

Owns jinja2. What a page shows stands in its own module.
"""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import parse_qs

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from dashboard.context import dashboard_of
from dashboard.routing import path_to
from dashboard.visitor import visitor_of

__all__ = ["page", "read_form"]


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(request: Request, template: str, context: dict[str, Any] | None = None, *, status: int = 200) -> HTMLResponse:
    """Return a page.

    Args:
        template: its name below `templates/`.
        context: what it shows, besides what each page has: `link`, `csrf_token`, `read_only`, `visitor`.
    """
    dashboard = dashboard_of(request)
    root = request.scope.get("root_path", "")
    every = {
        "link": lambda path, **parameters: root + path_to(path, **parameters),
        "csrf_token": dashboard.csrf.token(request),
        "read_only": dashboard.settings.read_only,
        "visitor": visitor_of(request),
    }
    response = HTMLResponse(_environment().get_template(template).render({**every, **(context or {})}), status)
    dashboard.csrf.remember(request, response)
    return response


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form (urlencoded), the last of each name."""
    text = (await request.body()).decode(errors="replace")
    return {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}
