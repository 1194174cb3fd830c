"""dashboard/security/gate.py: what a request passes before anything answers it, asked from outside."""

import base64
import json
import re
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from common.settings import Settings
from dashboard.context import Dashboard
from dashboard.fleet_watch import FleetWatch
from dashboard.live import Live
from dashboard.security.access import Access
from dashboard.security.csrf import FIELD, HEADER, Csrf
from dashboard.security.gate import CutShort, Gate
from dashboard.security.headers import CONTENT_SECURITY_POLICY, SecurityHeaders
from dashboard.security.masking import Masking
from dashboard.settings import DashboardSettings
from dashboard.source import Source
from dashboard.visitor import visitor_of

PASSWORD = "correct horse"
TOKEN = "0123456789abcdef0123"
BASIC = {"Authorization": "Basic " + base64.b64encode(f"barque:{PASSWORD}".encode()).decode()}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def show(request: Request):
    shared = request.app.state.dashboard
    response = JSONResponse({"token": shared.csrf.token(request), "visitor": visitor_of(request).name})
    shared.csrf.remember(request, response)
    return response


async def change(request: Request):
    return PlainTextResponse((await request.body()).decode())


async def break_down(_: Request):
    raise ValueError("hunter2")


async def stream_and_break_down(_: Request):
    async def parts():
        yield b"one"
        raise ValueError("hunter2")

    return StreamingResponse(parts())


def app_of(**given) -> Starlette:
    """Return an application with three pages behind a gate: `/`, `/change` and `/broken`, and the same below /api."""
    settings = DashboardSettings(**given)
    pages = [("", show, "GET"), ("/change", change, "POST"), ("/broken", break_down, "GET")]
    pages += [("/stream", stream_and_break_down, "GET")]
    app = Starlette(
        routes=[
            Route(root + path or "/", endpoint, methods=[method])
            for root in ("", "/api/v1")
            for path, endpoint, method in pages
        ],
        middleware=[Middleware(SecurityHeaders), Middleware(Gate, settings=settings, access=Access(settings))],
    )
    source = Source(Settings())
    watch = FleetWatch(source, every=1.0)
    app.state.dashboard = Dashboard(settings, source, Csrf(), Masking(settings), Live(), watch)
    return app


@asynccontextmanager
async def browse(app: Starlette, *, peer: str = "127.0.0.1", url: str = "http://localhost:9180"):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(peer, 5))
    async with httpx.AsyncClient(transport=transport, base_url=url) as client:
        yield client


async def ask(path="/", *, peer="127.0.0.1", url="http://localhost:9180", headers=None, **given) -> httpx.Response:
    async with browse(app_of(**given), peer=peer, url=url) as client:
        return await client.get(path, headers=headers or {})


class TestNobodySignsIn:
    async def test_this_machine_may(self):
        assert (await ask()).status_code == 200

    @pytest.mark.parametrize("peer", ["10.0.0.7", "2001:db8::1", "testclient", ""])
    async def test_no_other_machine_may(self, peer):
        assert (await ask(peer=peer)).status_code == 403

    async def test_not_even_if_the_settings_say_another_address(self):
        assert (await ask(peer="10.0.0.7", host="0.0.0.0")).status_code == 403  # create_app would refuse

    @pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
    async def test_nor_may_whoever_comes_through_a_proxy_on_this_one(self, name):
        assert (await ask(headers={name: "192.0.2.1"})).status_code == 403
        assert (await ask(headers={name: "192.0.2.1", **BASIC}, password=PASSWORD)).status_code == 200


class TestHost:
    @pytest.mark.parametrize(
        "name", ["localhost", "localhost:9180", "127.0.0.1:1", "[::1]:9180", "LOCALHOST", "app.localhost", "localhost."]
    )
    async def test_names_of_this_machine_pass(self, name):
        assert (await ask(headers={"Host": name})).status_code == 200

    @pytest.mark.parametrize(
        "name", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "a b", "localhost:x", "::1"]
    )
    async def test_other_names_do_not(self, name):
        response = await ask(headers={"Host": name})
        assert response.status_code == 400
        assert "barque_csrf" not in response.headers.get("set-cookie", "")

    async def test_names_that_are_set_pass_alone(self):
        rules = {"allowed_hosts": "barque.example,.internal"}
        assert (await ask(headers={"Host": "barque.example"}, **rules)).status_code == 200
        assert (await ask(headers={"Host": "a.internal:80"}, **rules)).status_code == 200
        assert (await ask(headers={"Host": "localhost"}, **rules)).status_code == 400

    async def test_on_another_address_any_name_passes_as_a_credential_is_asked_for(self):
        response = await ask(headers={"Host": "b.example", **BASIC}, host="0.0.0.0", password=PASSWORD, peer="10.0.0.7")
        assert response.status_code == 200

    async def test_health_is_told_whatever_the_name(self):
        async with browse(app_of(password=PASSWORD)) as client:
            assert (await client.get("/healthz", headers={"Host": "10.1.2.3"})).status_code == 404  # has no route here


class TestSigningIn:
    async def test_without_a_credential_the_browser_is_asked_for_one(self):
        response = await ask(password=PASSWORD, token=TOKEN)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Basic realm="Barque", charset="UTF-8", Bearer realm="Barque"'

    async def test_by_password(self):
        response = await ask(password=PASSWORD, headers=BASIC)
        assert (response.status_code, response.json()["visitor"]) == (200, "barque")

    async def test_by_token(self):
        assert (await ask(token=TOKEN, headers=BEARER)).status_code == 200

    @pytest.mark.parametrize(
        "credential",
        [
            "Basic " + base64.b64encode(b"barque:wrong one").decode(),
            "Basic " + base64.b64encode(b"other:" + PASSWORD.encode()).decode(),
            "Basic " + base64.b64encode(b"\xff\xfe").decode(),
            "Basic not-base64!",
            "Basic",
            "Bearer wrong",
            "Bearer",
            f"Bearer {PASSWORD}",
            f"Basic {TOKEN}",
            "Digest x",
            PASSWORD,
        ],
    )
    async def test_a_wrong_credential_does_not(self, credential):
        response = await ask(password=PASSWORD, token=TOKEN, headers={"Authorization": credential})
        assert response.status_code == 401
        assert PASSWORD not in response.text

    async def test_a_proxy_that_is_trusted_says_who(self):
        rules = {"proxy_header": "X-Forwarded-User", "trusted_proxies": "10.0.0.0/8", "host": "0.0.0.0"}
        named = {"X-Forwarded-User": "ann"}
        assert (await ask(headers=named, peer="10.1.1.1", **rules)).json()["visitor"] == "ann"
        assert (await ask(headers=named, peer="192.0.2.1", **rules)).status_code == 401
        assert (await ask(peer="10.1.1.1", **rules)).status_code == 401
        assert (await ask(headers={"X-Forwarded-User": " "}, peer="10.1.1.1", **rules)).status_code == 401

    async def test_who_is_named_twice_is_nobody(self):
        rules = {"proxy_header": "X-Forwarded-User", "trusted_proxies": "127.0.0.1"}
        twice = [("X-Forwarded-User", "ann"), ("X-Forwarded-User", "bob")]
        assert (await ask(headers=twice, **rules)).status_code == 401


class TestGuessing:
    async def test_after_some_wrong_ones_not_even_the_right_one_is_looked_at(self):
        wrong = {"Authorization": "Bearer wrong"}
        async with browse(app_of(token=TOKEN, sign_in_attempts=3)) as client:
            for _ in range(3):
                assert (await client.get("/", headers=wrong)).status_code == 401
            refused = await client.get("/", headers=BEARER)
            assert refused.status_code == 429
            assert 0 < int(refused.headers["retry-after"]) <= 60

    async def test_another_address_is_not_kept_out(self):
        app = app_of(token=TOKEN, sign_in_attempts=1)
        async with browse(app, peer="127.0.0.2") as client:
            await client.get("/", headers={"Authorization": "Bearer wrong"})
            assert (await client.get("/", headers=BEARER)).status_code == 429
        async with browse(app, peer="127.0.0.3") as client:
            assert (await client.get("/", headers=BEARER)).status_code == 200

    async def test_behind_a_trusted_proxy_the_address_is_the_visitors(self):
        app = app_of(token=TOKEN, sign_in_attempts=1, trusted_proxies="127.0.0.1")
        async with browse(app) as client:
            guess = {"Authorization": "Bearer wrong", "X-Forwarded-For": "6.6.6.6, 192.0.2.1"}
            await client.get("/", headers=guess)
            assert (await client.get("/", headers={**BEARER, "X-Forwarded-For": "192.0.2.1"})).status_code == 429
            assert (await client.get("/", headers={**BEARER, "X-Forwarded-For": "192.0.2.2"})).status_code == 200

    async def test_what_anybody_else_says_of_the_address_counts_for_nothing(self):
        async with browse(app_of(token=TOKEN, sign_in_attempts=1)) as client:
            await client.get("/", headers={"Authorization": "Bearer wrong", "X-Forwarded-For": "1.1.1.1"})
            assert (await client.get("/", headers={**BEARER, "X-Forwarded-For": "2.2.2.2"})).status_code == 429

    async def test_to_show_none_is_not_to_guess(self):
        async with browse(app_of(token=TOKEN, sign_in_attempts=1)) as client:
            for _ in range(5):
                await client.get("/")
            assert (await client.get("/", headers=BEARER)).status_code == 200

    async def test_the_log_has_the_address_and_no_credential(self):
        with capture_logs() as lines:
            await ask(token=TOKEN, headers={"Authorization": "Bearer hunter2"})
        assert [line["event"] for line in lines] == ["sign_in_refused"]
        assert "hunter2" not in str(lines)


class TestForgery:
    """A page elsewhere has a browser send something in the name of who is signed in."""

    @pytest.fixture
    async def browser(self):
        async with browse(app_of(password=PASSWORD)) as client:
            client.headers.update({**BASIC, "Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:9180"})
            yield client

    @staticmethod
    async def token(client) -> str:
        return (await client.get("/")).json()["token"]

    async def test_the_form_of_a_page_passes_and_is_read_as_it_was_sent(self, browser):
        form = {FIELD: await self.token(browser), "queue": "low", "reason": "a=b&c"}
        response = await browser.post("/change", data=form)
        assert response.status_code == 200
        assert "queue=low&reason=a%3Db%26c" in response.text

    async def test_a_header_does_as_well(self, browser):
        token = await self.token(browser)
        for path in ("/change", "/api/v1/change"):
            assert (await browser.post(path, headers={HEADER: token})).status_code == 200

    async def test_without_a_token_it_does_not_pass(self, browser):
        await self.token(browser)
        for path in ("/change", "/api/v1/change"):
            response = await browser.post(path, data={"queue": "low"})
            assert response.status_code == 403
            assert "it has no token" in response.text

    async def test_nor_with_the_token_of_another_cookie(self, browser):
        token = await self.token(browser)
        browser.cookies.clear()
        await self.token(browser)
        assert (await browser.post("/change", data={FIELD: token})).status_code == 403

    async def test_nor_without_the_cookie(self, browser):
        token = await self.token(browser)
        browser.cookies.clear()
        assert (await browser.post("/change", data={FIELD: token})).status_code == 403

    @pytest.mark.parametrize("token", ["", "é", "0" * 64])
    async def test_nor_with_a_token_made_up(self, browser, token):
        await self.token(browser)
        assert (await browser.post("/change", data={FIELD: token})).status_code == 403

    @pytest.mark.parametrize("cookie", ["x", "", "0" * 31, '"', "a;b=c", "\xff"])
    async def test_a_cookie_that_is_none_is_as_good_as_none(self, browser, cookie):
        token = await self.token(browser)
        browser.cookies.clear()
        headers = {"Cookie": f"barque_csrf={cookie}".encode("latin-1")}
        assert (await browser.post("/change", headers=headers, data={FIELD: token})).status_code == 403

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "none", "odd"])
    async def test_nor_from_another_site_even_with_a_token(self, browser, site):
        form = {FIELD: await self.token(browser)}
        assert (await browser.post("/change", data=form, headers={"Sec-Fetch-Site": site})).status_code == 403

    @pytest.mark.parametrize(
        "origin", ["null", "http://evil.example", "http://localhost:3000", "https://[", "ftp://localhost:9180"]
    )
    async def test_an_origin_tells_where_the_browser_says_no_more(self, browser, origin):
        form = {FIELD: await self.token(browser)}
        del browser.headers["Sec-Fetch-Site"]
        assert (await browser.post("/change", data=form, headers={"Origin": origin})).status_code == 403

    async def test_the_same_origin_passes_and_so_does_a_name_that_is_set(self):
        app = app_of(password=PASSWORD, allowed_hosts="localhost,barque.example")
        async with browse(app) as client:
            client.headers.update(BASIC)
            form = {FIELD: await self.token(client)}
            for origin in ("http://localhost:9180", "https://barque.example"):
                assert (await client.post("/change", data=form, headers={"Origin": origin})).status_code == 200

    async def test_a_program_that_shows_no_mark_of_a_browser_needs_no_token_for_the_api(self):
        async with browse(app_of(password=PASSWORD)) as client:
            assert (await client.post("/api/v1/change", headers=BASIC)).status_code == 200
            assert (await client.post("/change", headers=BASIC)).status_code == 403

    async def test_a_bearer_token_is_sent_by_no_browser_by_itself(self):
        async with browse(app_of(token=TOKEN)) as client:
            for path in ("/change", "/api/v1/change"):
                assert (await client.post(path, headers={**BEARER, "Origin": "null"})).status_code == 200

    async def test_a_change_is_logged_with_who_made_it(self, browser):
        form = {FIELD: await self.token(browser), "reason": "hunter2"}
        with capture_logs() as lines:
            await browser.post("/change", data=form)
        (line,) = lines
        assert (line["event"], line["by"], line["path"]) == ("dashboard_change", "barque (dashboard)", "/change")
        assert "hunter2" not in str(line)

    async def test_the_cookie_is_kept_from_scripts_and_other_sites(self):
        response = await ask()
        cookie = response.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert "Secure" not in cookie

    async def test_and_from_plain_http_where_a_proxy_speaks_https(self):
        response = await ask(headers={"X-Forwarded-Proto": "https"}, trusted_proxies="127.0.0.1")
        assert "Secure" in response.headers["set-cookie"]
        ignored = await ask(headers={"X-Forwarded-Proto": "https"})
        assert "Secure" not in ignored.headers["set-cookie"]


class TestReadingOnly:
    @pytest.mark.parametrize("path", ["/change", "/api/v1/change", "/nowhere"])
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "LOCK"])
    async def test_nothing_is_changed(self, path, method):
        async with browse(app_of(token=TOKEN, read_only=True)) as client:
            response = await client.request(method, path, headers=BEARER)
            assert response.status_code == 403

    async def test_pages_are_shown(self):
        assert (await ask(read_only=True)).status_code == 200


class TestLargeRequests:
    async def test_one_that_says_so_is_not_read(self):
        async with browse(app_of(token=TOKEN, max_body_bytes=1024)) as client:
            response = await client.post("/api/v1/change", headers=BEARER, content=b"x" * 1025)
            assert (response.status_code, response.headers["connection"]) == (413, "close")
            assert (await client.post("/api/v1/change", headers=BEARER, content=b"x" * 1024)).status_code == 200

    async def test_one_that_does_not_is_read_no_further(self):
        sent = 0

        async def parts():
            nonlocal sent
            for _ in range(100):
                sent += 1
                yield b"x" * 512

        async with browse(app_of(token=TOKEN, max_body_bytes=1024)) as client:
            assert (await client.post("/api/v1/change", headers=BEARER, content=parts())).status_code == 413

    async def test_nor_is_a_form(self):
        async with browse(app_of(password=PASSWORD, max_body_bytes=1024)) as client:
            response = await client.post("/change", headers=BASIC, data={"a": "x" * 2000})
            assert response.status_code == 413


class TestBehindAPath:
    @pytest.mark.parametrize("path", ["/barque/", "/", "/barque/api/v1"])
    async def test_the_prefix_may_be_there_or_taken_off(self, path):
        response = await ask(path, root_path="/barque")
        assert response.status_code == 200
        assert "Path=/barque" in response.headers["set-cookie"]

    async def test_a_path_that_only_begins_alike_is_another(self):
        assert (await ask("/barquentine", root_path="/barque")).status_code == 404


class TestEveryAnswer:
    @pytest.mark.parametrize(
        ("path", "status"), [("/", 200), ("/nowhere", 404), ("/broken", 500), ("/api/v1/broken", 500)]
    )
    async def test_has_the_headers(self, path, status):
        response = await ask(path)
        assert response.status_code == status
        assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cache-control"] == "no-store"

    async def test_so_has_one_that_refuses(self):
        response = await ask(password=PASSWORD)
        assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY

    async def test_an_error_of_ours_quotes_nothing(self):
        with capture_logs() as lines:
            response = await ask("/api/v1/broken")
        assert response.headers["content-type"] == "application/problem+json"
        assert json.loads(response.text)["status"] == 500
        assert "hunter2" not in response.text + str(lines)
        (line,) = [line for line in lines if line["event"] == "dashboard_error"]
        assert line["error"] == "ValueError"
        assert re.search(r"test_dashboard_gate\.py:\d+ in break_down$", line["where"])

    async def test_nor_does_one_in_the_middle_of_an_answer(self):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app_of(), client=("127.0.0.1", 5)), base_url="http://localhost"
        ) as client:
            with capture_logs() as lines, pytest.raises(CutShort) as raised:
                await client.get("/stream")
        assert raised.value.__suppress_context__
        (line,) = lines
        assert (line["event"], line["error"]) == ("dashboard_error", "ValueError")
        assert "hunter2" not in str(line)
