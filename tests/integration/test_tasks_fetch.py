"""fetch_url against real servers on loopback: pages, failures, redirects, and what it refuses to reach."""

import asyncio
import base64
import gzip
import hashlib
import ipaddress
import socket
import time
import traceback
from email.utils import formatdate

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver

from common import Context
from common.open_resources import keeper_of
from workers.tasks import fetch_url
from workers.tasks.address_guard import AddressGuard
from workers.tasks.http_client import HttpClient, http_client
from workers.tasks.http_errors import (
    BodyTooLarge,
    ForbiddenAddress,
    HttpConnectionError,
    HttpStatusError,
    HttpTimeout,
    HttpUnavailable,
    InvalidRequest,
    TooManyRedirects,
)


@pytest.fixture
async def ctx():
    context = Context(job_id="j1")
    yield context
    await keeper_of(context.state).close()
    given = context.state.pop(http_client, None)
    if given is not None:
        await given.close()


@pytest.fixture
def private(monkeypatch):
    """Let tasks reach the test's own servers."""
    monkeypatch.setenv("BARQUE_HTTP_ALLOW_PRIVATE", "true")


@pytest.fixture
async def serve():
    """Start servers; each records its requests under `seen`."""
    runners = []

    async def start(handler, host="127.0.0.1"):
        async def record(request):
            url.seen.append((request.method, request.path_qs, request.headers.copy(), await request.read()))
            return await handler(request)

        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", record)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, host, 0)
        await site.start()
        url = Server(f"http://{host}:{runner.addresses[0][1]}")
        url.port = runner.addresses[0][1]
        url.seen = []
        return url

    yield start
    for runner in runners:
        await runner.cleanup()


class Server(str):  # noqa: SLOT000 - it has attributes
    port: int
    seen: list


class OnlyThese(AddressGuard):
    """Stand-in for "public" on a machine whose servers are all on loopback."""

    def permits(self, address):
        return str(address) in {"127.0.0.2", "127.0.0.3"}


class Names(AbstractResolver):
    """Answer each look-up of a name with the next of its addresses."""

    def __init__(self, **names):
        self.names = {name.replace("_", "."): list(answers) for name, answers in names.items()}
        self.asked = []

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked.append(host)
        answers = self.names[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in found
        ]

    async def close(self):
        pass


async def hello(request):
    return web.Response(text="hello")


def redirect(status, location):
    async def handler(request):
        return web.Response(status=status, headers={"Location": location})

    return handler


# --- what comes back


async def test_a_page(ctx, private, serve):
    async def handler(request):
        return web.Response(text="grüße", charset="iso-8859-1", headers={"X-Many": "a", "ETag": '"1"'})

    url = await serve(handler)
    page = await fetch_url.function(ctx, f"{url}/a?b=c", headers={"X-Mine": "1"})
    assert page.status == 200
    assert page.url == f"{url}/a?b=c"
    assert page.body == "grüße".encode("iso-8859-1")
    assert page.text == "grüße"
    assert page.headers["etag"] == '"1"'
    assert page.sha256 == hashlib.sha256(page.body).hexdigest()
    assert page.elapsed_ms > 0
    assert url.seen[0][2]["X-Mine"] == "1"


async def test_a_large_page(ctx, private, serve):
    content = bytes(range(256)) * 8000

    async def handler(request):
        return web.Response(body=content)

    page = await fetch_url.function(ctx, await serve(handler))
    assert page.body == content
    assert page.sha256 == hashlib.sha256(content).hexdigest()


async def test_a_page_travels(ctx, private, serve):
    from common.values import encode

    page = await fetch_url.function(ctx, await serve(hello))
    assert fetch_url.result.read(encode(page), "page") == page


async def test_a_post(ctx, private, serve):
    async def handler(request):
        return web.json_response({"got": (await request.read()).decode()}, status=201)

    url = await serve(handler)
    page = await fetch_url.function(ctx, url, method="post", body=b"data", headers={"Content-Type": "a/b"})
    assert (page.status, page.json()) == (201, {"got": "data"})
    assert url.seen[0][0] == "POST"


async def test_a_head_of_something_large(ctx, private, serve, monkeypatch):
    monkeypatch.setenv("BARQUE_HTTP_MAX_BYTES", "10")

    async def handler(request):
        return web.Response(body=b"x" * 1000)

    page = await fetch_url.function(ctx, await serve(handler), method="HEAD")
    assert page.headers["content-length"] == "1000"
    assert page.body == b""


async def test_tasks_of_one_worker_share_one_session(ctx, private, serve):
    ports = set()

    async def handler(request):
        ports.add(request.transport.get_extra_info("peername")[1])
        return web.Response(text="x")

    url = await serve(handler)
    await fetch_url.function(ctx, url)
    client = ctx.state[http_client]
    await fetch_url.function(Context(job_id="j2", state=ctx.state), url)
    assert ctx.state[http_client] is client
    assert len(ports) == 1


async def test_a_cookie_of_one_job_does_not_travel_with_another(ctx, private, serve):
    async def handler(request):
        response = web.Response(text="x")
        response.set_cookie("session", "s3cret")
        return response

    url = await serve(handler)
    # By name, since aiohttp's ordinary jar keeps no cookie of an address.
    await fetch_url.function(ctx, f"http://localhost:{url.port}/")
    await fetch_url.function(ctx, f"http://localhost:{url.port}/")
    assert len(url.seen) == 2
    assert not any("Cookie" in headers for _, _, headers, _ in url.seen)


# --- statuses


@pytest.mark.parametrize("status", [400, 401, 404, 410])
async def test_a_final_status(ctx, private, serve, status):
    async def handler(request):
        return web.Response(status=status)

    with pytest.raises(HttpStatusError) as caught:
        await fetch_url.function(ctx, f"{await serve(handler)}/a?token=s3cret")
    assert caught.value.status == status
    assert "s3cret" not in str(caught.value)
    assert not fetch_url.options.retry.retries(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_status_that_may_pass(ctx, private, serve, status):
    async def handler(request):
        return web.Response(status=status)

    with pytest.raises(HttpUnavailable) as caught:
        await fetch_url.function(ctx, await serve(handler))
    assert fetch_url.options.retry.retries(caught.value)


async def test_retry_after_in_seconds_and_as_a_date(ctx, private, serve):
    async def handler(request):
        value = "30" if request.path == "/seconds" else formatdate(time.time() + 1000, usegmt=True)
        return web.Response(status=503, headers={"Retry-After": value})

    url = await serve(handler)
    with pytest.raises(HttpUnavailable) as caught:
        await fetch_url.function(ctx, f"{url}/seconds")
    assert caught.value.retry_after == 30
    with pytest.raises(HttpUnavailable) as caught:
        await fetch_url.function(ctx, f"{url}/date")
    assert 900 < caught.value.retry_after <= 1000


# --- limits


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit(ctx, private, serve, monkeypatch, chunked):
    monkeypatch.setenv("BARQUE_HTTP_MAX_BYTES", "1000")

    async def handler(request):
        response = web.StreamResponse()
        if chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = int(request.query["size"])
        await response.prepare(request)
        await response.write(b"x" * int(request.query["size"]))
        return response

    url = await serve(handler)
    assert len((await fetch_url.function(ctx, f"{url}/?size=1000")).body) == 1000
    with pytest.raises(BodyTooLarge, match="over 1000 bytes"):
        await fetch_url.function(ctx, f"{url}/?size=1001")


async def test_a_bomb_is_measured_decompressed(ctx, private, serve, monkeypatch):
    monkeypatch.setenv("BARQUE_HTTP_MAX_BYTES", "1000000")
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000

    async def handler(request):
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    with pytest.raises(BodyTooLarge):
        await fetch_url.function(ctx, await serve(handler))


async def test_no_answer_in_time(ctx, private, serve, monkeypatch):
    monkeypatch.setenv("BARQUE_HTTP_TIMEOUT", "0.2")
    over = asyncio.Event()

    async def handler(request):
        await over.wait()
        return web.Response()

    url = await serve(handler)
    with pytest.raises(HttpTimeout, match="BARQUE_HTTP_TIMEOUT") as caught:
        await fetch_url.function(ctx, f"{url}/?token=s3cret")
    over.set()
    assert fetch_url.options.retry.retries(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_an_answer_that_trickles_in_forever(ctx, private, serve, monkeypatch):
    monkeypatch.setenv("BARQUE_HTTP_TIMEOUT", "0.3")

    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(400):  # each byte in time, all of them not
            await response.write(b"x")
            await asyncio.sleep(0.05)
        return response

    with pytest.raises(HttpTimeout):
        await fetch_url.function(ctx, await serve(handler))


async def test_the_time_counts_for_all_redirects_together(ctx, private, serve, monkeypatch):
    monkeypatch.setenv("BARQUE_HTTP_TIMEOUT", "0.3")
    over = asyncio.Event()
    hops = []

    async def handler(request):
        hops.append(request.path)
        if len(hops) > 1:
            await over.wait()
        return web.Response(status=302, headers={"Location": "/next"})

    url = await serve(handler)
    with pytest.raises(HttpTimeout):
        await fetch_url.function(ctx, url)
    over.set()
    assert hops == ["/", "/next"]


async def test_nobody_listens(ctx, private):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: a connection is refused
        with pytest.raises(HttpConnectionError, match="no connection") as caught:
            await fetch_url.function(ctx, f"http://127.0.0.1:{taken.getsockname()[1]}/?token=s3cret")
    assert "s3cret" not in str(caught.value)
    assert fetch_url.options.retry.retries(caught.value)


async def test_an_answer_that_breaks_off(ctx, private):
    async def break_off(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(break_off, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(HttpConnectionError, match="broke off"):
            await fetch_url.function(ctx, f"http://127.0.0.1:{port}/")


async def test_an_answer_that_is_no_http_shows_no_secret(ctx, private):
    async def babble(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 smtp ready\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(HttpConnectionError) as caught:
            await fetch_url.function(ctx, f"http://user:hunter2@127.0.0.1:{port}/?token=s3cret")
    # Without the frames, whose source lines are this test's own.
    shown = "".join(traceback.format_exception(caught.value, limit=0))
    assert "hunter2" not in shown
    assert "s3cret" not in shown


# --- what is refused


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://0x7f000001/",
        "http://127.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::1]/",
        "http://[fe80::1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "http://user@127.0.0.1/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://127\u30020\u30020\u30021/",
        "http://localhost/",
    ],
)
async def test_private_addresses_are_refused_however_they_are_written(ctx, url):
    with pytest.raises(ForbiddenAddress) as caught:
        await fetch_url.function(ctx, url)
    assert not fetch_url.options.retry.retries(caught.value)


WAYS_TO_LOOPBACK = [
    "127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "localhost", "0", "0.0.0.0", "0.0.0.0.", "127.1", "127.0x1",
    "127.0.0.1.", "127.000.000.001", "00000177.0.0.1", "0177.1", "0x7f.1", "017700000001", "[::]", "[::1]", "[0000::1]",
    "[::127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:0:127.0.0.1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::1%25lo]",
    "[fe80::1%25lo]", "[::ffff:127.0.0.1%25x]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]",
    "[2001:0:7f00:1::]", "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460", "127\u30020\u30020\u30021", "0x7f\u30020.0.1",
    "1\uff127.0.0.1", "\u24dbocalhost", "LOCALHOST", "x@127.0.0.1", "example.org:80@127.0.0.1", "127.0.0.1\t",
]  # fmt: skip
NO_HOSTS = [
    "127.0.0.1..", "4294967296", "127.0.0.1\\@example.org", "example.org\\@127.0.0.1", "[::1].", "127.0.0.1\u200d",
    "256.0.0.1", "127.0.0.1:80:",
]  # fmt: skip


@pytest.mark.parametrize("host", WAYS_TO_LOOPBACK)
async def test_no_connection_reaches_a_refused_server(ctx, serve, host):
    url = await serve(hello)
    with pytest.raises(ForbiddenAddress):
        await fetch_url.function(ctx, f"http://{host}:{url.port}/")
    assert url.seen == []


@pytest.mark.parametrize("host", NO_HOSTS)
async def test_what_is_nearly_an_address_is_no_url(ctx, serve, host):
    url = await serve(hello)
    with pytest.raises(InvalidRequest):
        await fetch_url.function(ctx, f"http://{host}:{url.port}/")
    assert url.seen == []


@pytest.mark.parametrize("port", [22, 25, 465, 587, 6000, 6667])
async def test_a_port_of_another_protocol_is_refused(ctx, private, serve, port):
    """A mail server would take the body of a POST for commands."""
    with pytest.raises(InvalidRequest, match="another protocol"):
        await fetch_url.function(ctx, f"http://127.0.0.1:{port}/", method="POST", body=b"MAIL FROM:<a@b>\r\n")
    with pytest.raises(InvalidRequest, match="another protocol"):
        await fetch_url.function(ctx, await serve(redirect(307, f"http://127.0.0.1:{port}/")))


async def test_a_url_ends_no_line_of_the_request(ctx, private, serve):
    url = await serve(hello)
    page = await fetch_url.function(ctx, f"{url}/a\r\nX-Injected: 1\r\n\r\nGET /b?c=\r\nX-Injected: 2")
    assert page.status == 200
    (request,) = url.seen
    assert "X-Injected" not in request[2]


async def test_a_name_that_resolves_to_a_private_address_is_refused(ctx, serve):
    url = await serve(hello)
    for addresses in (["127.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["::ffff:127.0.0.1"]):
        client = HttpClient(AddressGuard(), resolver=Names(innocent_example=[addresses]))
        ctx.state[http_client] = client
        with pytest.raises(ForbiddenAddress, match=r"innocent\.example") as caught:
            await fetch_url.function(ctx, f"http://innocent.example:{url.port}/")
        assert "127.0.0.1" not in str(caught.value)
        await client.close()
    del ctx.state[http_client]
    assert url.seen == []


async def test_of_several_addresses_only_permitted_ones_are_tried(ctx, serve):
    url = await serve(hello, host="127.0.0.2")
    ctx.state[http_client] = HttpClient(OnlyThese(), resolver=Names(mixed_example=[["127.0.0.1", "127.0.0.2"]]))
    assert (await fetch_url.function(ctx, f"http://mixed.example:{url.port}/")).text == "hello"


async def test_the_address_checked_is_the_address_connected_to(ctx, serve):
    """DNS rebinding: a name that is harmless when checked and private when looked up again."""
    url = await serve(redirect(302, "/again"), host="127.0.0.2")
    names = Names(rebinding_example=[["127.0.0.2"], ["127.0.0.1"]])
    ctx.state[http_client] = HttpClient(OnlyThese(), resolver=names)
    with pytest.raises(TooManyRedirects):
        await fetch_url.function(ctx, f"http://rebinding.example:{url.port}/")
    assert names.asked == ["rebinding.example"]  # looked up once: there is no second answer to be fooled by
    # A new connection looks it up again, and then the new address is what is judged.
    await ctx.state.pop(http_client).close()
    ctx.state[http_client] = HttpClient(OnlyThese(), resolver=names)
    with pytest.raises(ForbiddenAddress):
        await fetch_url.function(ctx, f"http://rebinding.example:{url.port}/")


@pytest.mark.parametrize("several", [False, True])
async def test_the_socket_is_the_last_line_of_defence(ctx, serve, monkeypatch, several):
    """Even if the resolver let a private address through, no socket is made for it."""
    url = await serve(hello)
    addresses = ["127.0.0.1", "127.0.0.4"] if several else ["127.0.0.1"]
    names = Names(innocent_example=[addresses])
    client = ctx.state[http_client] = HttpClient(AddressGuard(), resolver=names)
    monkeypatch.setattr(client._resolver, "_permits", lambda address: True)
    with pytest.raises(ForbiddenAddress):
        await fetch_url.function(ctx, f"http://innocent.example:{url.port}/")
    assert names.asked
    assert url.seen == []


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "inside.example"],
)
async def test_a_redirect_to_a_private_address_is_refused(ctx, serve, host):
    inside = await serve(hello)
    outside = await serve(redirect(302, f"http://{host}:{inside.port}/admin"), host="127.0.0.2")
    ctx.state[http_client] = HttpClient(OnlyThese(), resolver=Names(inside_example=[["127.0.0.1"]]))
    with pytest.raises(ForbiddenAddress):
        await fetch_url.function(ctx, outside)
    assert len(outside.seen) == 1
    assert inside.seen == []


async def test_a_proxy_of_the_environment_is_not_used(ctx, private, serve, monkeypatch):
    proxy = await serve(hello)
    url = await serve(hello)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("http_proxy", proxy)
    await fetch_url.function(ctx, url)
    assert (len(proxy.seen), len(url.seen)) == (0, 1)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "example.org",
        "http://",
        "http:///path",
        "http://[half",
        "http://a:99999/",
        "",
        "//example.org/",
        "javascript:alert(1)",
    ],
)
async def test_only_http_urls(ctx, url):
    with pytest.raises(InvalidRequest) as caught:
        await fetch_url.function(ctx, url)
    assert not fetch_url.options.retry.retries(caught.value)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://a/", "http://[half"])
async def test_a_redirect_to_something_else_than_http(ctx, private, serve, location):
    with pytest.raises(InvalidRequest):
        await fetch_url.function(ctx, await serve(redirect(302, location)))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "CONNECT"}, "CONNECT"),
        ({"method": "GET / HTTP/1.1\r\nX: y"}, "method"),
        ({"headers": {"X": "a\r\nY: b"}}, "line break"),
        ({"headers": {"X\r\nY": "b"}}, "header name"),
        ({"headers": {"": "b"}}, "header name"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "client sets it"),
        ({"headers": {"content-length": "3"}}, "client sets it"),
    ],
)
async def test_what_cannot_be_sent(ctx, options, match):
    with pytest.raises(InvalidRequest, match=match):
        await fetch_url.function(ctx, "http://example.org/", **options)


# --- redirects


async def test_redirects_end(ctx, private, serve):
    url = await serve(redirect(302, "/again"))
    with pytest.raises(TooManyRedirects, match="over 10 redirects"):
        await fetch_url.function(ctx, url)
    assert len(url.seen) == 11


@pytest.mark.parametrize(
    ("status", "sent", "followed"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (302, "PUT", "PUT"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
    ],
)
async def test_the_method_after_a_redirect(ctx, private, serve, status, sent, followed):
    async def handler(request):
        if request.path == "/":
            return web.Response(status=status, headers={"Location": "next?x=1"})
        return web.Response(text="there")

    url = await serve(handler)
    body = None if sent == "HEAD" else b"data"
    page = await fetch_url.function(ctx, f"{url}/", method=sent, body=body, headers={"Content-Type": "a/b"})
    assert page.url == f"{url}/next?x=1"
    method, path, headers, content = url.seen[1]
    assert (method, path) == (followed, "/next?x=1")
    assert content == (b"data" if followed == sent and body else b"")
    assert (headers.get("Content-Type") == "a/b") == (followed == sent)


async def test_credentials_stay_with_their_host(ctx, private, serve):
    elsewhere = await serve(hello)
    url = await serve(redirect(307, f"{elsewhere}/there"))
    secrets = {"Authorization": "Bearer s3cret", "Cookie": "a=s3cret", "X-Api-Key": "s3cret"}
    await fetch_url.function(ctx, url, headers={**secrets, "Accept": "text/html"})
    assert url.seen[0][2]["X-Api-Key"] == "s3cret"
    assert elsewhere.seen[0][2]["Accept"] == "text/html"
    assert "s3cret" not in str(elsewhere.seen)


async def test_a_user_in_the_url_stays_with_its_host(ctx, private, serve):
    elsewhere = await serve(hello)

    async def handler(request):
        target = "/same" if request.path == "/" else f"{elsewhere}/there"
        return web.Response(status=302, headers={"Location": target})

    url = await serve(handler)
    page = await fetch_url.function(ctx, url.replace("http://", "http://user:p%40ss@"))
    basic = "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert [headers.get("Authorization") for _, _, headers, _ in url.seen] == [basic, basic]
    assert "Authorization" not in elsewhere.seen[0][2]
    assert page.url == f"{elsewhere}/there"


async def test_a_user_put_in_by_the_server_is_not_sent(ctx, private, serve):
    elsewhere = await serve(hello)
    target = elsewhere.replace("http://", "http://planted:planted@")
    await fetch_url.function(ctx, await serve(redirect(302, target)))
    assert "Authorization" not in elsewhere.seen[0][2]


async def test_a_user_in_the_url_and_a_header_contradict(ctx):
    with pytest.raises(InvalidRequest, match="not both"):
        await fetch_url.function(ctx, "http://u:p@example.org/", headers={"authorization": "x"})


def test_the_stand_in_for_public_is_narrower_than_the_real_one():
    assert not OnlyThese().permits(ipaddress.ip_address("127.0.0.1"))
    assert issubclass(aiohttp.ThreadedResolver, AbstractResolver)
