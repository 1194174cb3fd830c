"""The application as a whole: no route of it, whoever adds one, is reached past the gate."""

import re

import httpx
import pytest
from starlette.routing import Mount

from common.settings import Settings
from dashboard.app import create_app
from dashboard.routing import ExactRoute
from dashboard.security.headers import CONTENT_SECURITY_POLICY
from dashboard.settings import DashboardSettings

NOWHERE = Settings(redis_url="redis://127.0.0.1:1/0")


def routes() -> list[tuple[str, str]]:
    """Return method and path of everything that is answered, `/healthz` aside."""
    found = []
    for route in create_app(NOWHERE, DashboardSettings()).routes:
        if isinstance(route, Mount):
            found.append(("GET", f"{route.path}/dashboard.css"))
        elif route.path != "/healthz":
            assert isinstance(route, ExactRoute), "an id with a slash in it would be another route"
            path = re.sub(r"\{\w+\}", "x", route.path)
            found += [(method, path) for method in sorted(route.methods)]
    return found


ROUTES = routes()
CHANGES = [(method, path) for method, path in ROUTES if method not in {"GET", "HEAD"}]


async def ask(method, path, *, headers=None, **rules):
    app = create_app(NOWHERE, DashboardSettings(**rules))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.request(method, path, headers=headers)


def test_there_are_pages_and_operations():
    assert ("GET", "/") in ROUTES
    assert ("POST", "/api/v1/jobs") in CHANGES
    assert len(ROUTES) > 50


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_credential_nothing_is_answered(method, path):
    response = await ask(method, path, password="correct horse")
    assert response.status_code == 401
    assert "Basic" in response.headers["www-authenticate"]


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_where_nothing_may_be_changed_nothing_is(method, path):
    assert (await ask(method, path, read_only=True)).status_code == 403


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_nothing_is_changed_for_a_page_elsewhere(method, path):
    response = await ask(method, path, headers={"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"})
    assert response.status_code == 403
    assert "another site" in response.text


@pytest.mark.parametrize("path", sorted({path for method, path in ROUTES if method == "GET"}))
async def test_whatever_is_asked_without_a_server_the_answer_is_none_of_an_error_of_ours(path):
    response = await ask("GET", path)
    assert response.status_code in {200, 303, 404, 503}
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


async def test_what_holds_no_data_is_kept_by_browsers_and_asked_about():
    response = await ask("GET", "/static/dashboard.css", root_path="/barque")
    assert response.headers["cache-control"] == "private, no-cache"
    again = await ask("GET", "/static/dashboard.css", headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304
    assert (await ask("GET", "/")).headers["cache-control"] == "no-store"
