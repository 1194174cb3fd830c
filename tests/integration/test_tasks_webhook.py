"""deliver_webhook against a real receiver, which checks the signature by itself."""

import base64
import hashlib
import hmac
import time
from email.utils import formatdate

import msgspec
import pytest
from aiohttp import web

from common import Context
from common.errors import ConfigurationError
from common.open_resources import keeper_of
from workers.tasks import deliver_webhook
from workers.tasks.http_errors import ForbiddenAddress, HttpStatusError, HttpUnavailable, InvalidRequest

KEY = b"0123456789abcdef01234567"


class Receiver:
    """A webhook receiver: keeps what it was sent, answers what it is told to."""

    def __init__(self):
        self.received = []
        self.status = 204
        self.headers = {}
        self.url = ""

    async def handle(self, request):
        self.received.append((request.headers.copy(), await request.read()))
        return web.Response(status=self.status, headers=self.headers)


@pytest.fixture
async def receiver():
    made = Receiver()
    app = web.Application()
    app.router.add_post("/hook", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield made
    await runner.cleanup()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("BARQUE_HTTP_ALLOW_PRIVATE", "true")
    monkeypatch.setenv("BARQUE_WEBHOOK_SECRET", "whsec_" + base64.b64encode(KEY).decode())


@pytest.fixture
async def state():
    made = {}
    yield made
    await keeper_of(made).close()


def attempt(state, number=1):
    return Context(job_id="order-17", attempt=number, state=state)


def is_signed(headers, body, key):
    """Check a message as the specification says, without any code of ours."""
    content = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode() + b"." + body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return any(
        hmac.compare_digest(given.removeprefix("v1,"), expected)
        for given in headers["webhook-signature"].split()
        if given.startswith("v1,")
    )


async def test_the_receiver_can_check_it(state, receiver):
    before = int(time.time())
    delivery = await deliver_webhook.function(attempt(state, 2), receiver.url, {"type": "paid", "data": {"ü": 1}})
    headers, body = receiver.received[0]
    assert is_signed(headers, body, KEY)
    assert not is_signed(headers, body + b" ", KEY)
    assert not is_signed(headers, body, b"another key")
    assert msgspec.json.decode(body) == {"type": "paid", "data": {"ü": 1}}
    assert headers["Content-Type"] == "application/json"
    assert before <= int(headers["webhook-timestamp"]) <= time.time()
    assert (delivery.webhook_id, delivery.status, delivery.attempt) == ("order-17", 204, 2)


async def test_every_attempt_has_the_same_id_and_body(state, receiver):
    receiver.status = 500
    for number in (1, 2, 3):
        with pytest.raises(HttpUnavailable):
            await deliver_webhook.function(attempt(state, number), receiver.url, {"a": 1})
    assert {headers["webhook-id"] for headers, _ in receiver.received} == {"order-17"}
    assert {headers["Idempotency-Key"] for headers, _ in receiver.received} == {"order-17"}
    assert len({body for _, body in receiver.received}) == 1


async def test_bytes_are_sent_as_they_are(state, receiver):
    await deliver_webhook.function(attempt(state), receiver.url, b"<a/>", headers={"Content-Type": "text/xml"})
    headers, body = receiver.received[0]
    assert (headers["Content-Type"], body) == ("text/xml", b"<a/>")
    assert is_signed(headers, body, KEY)


async def test_more_headers_replace_none_of_the_signed_ones(state, receiver):
    more = {"X-Tenant": "t", "Webhook-Id": "forged", "WEBHOOK-SIGNATURE": "forged", "idempotency-key": "forged"}
    await deliver_webhook.function(attempt(state), receiver.url, {}, headers=more)
    headers, body = receiver.received[0]
    assert headers["X-Tenant"] == "t"
    assert "forged" not in str(headers)
    assert is_signed(headers, body, KEY)


async def test_another_secret(state, receiver, monkeypatch):
    monkeypatch.setenv("BARQUE_WEBHOOK_SECRET_ACME", "whsec_YWNtZQ==")
    await deliver_webhook.function(attempt(state), receiver.url, {}, secret="acme")
    assert is_signed(*receiver.received[0], b"acme")
    assert not is_signed(*receiver.received[0], KEY)


async def test_without_a_secret_nothing_is_sent(state, receiver, monkeypatch):
    monkeypatch.delenv("BARQUE_WEBHOOK_SECRET")
    with pytest.raises(ConfigurationError, match="BARQUE_WEBHOOK_SECRET") as caught:
        await deliver_webhook.function(attempt(state), receiver.url, {})
    assert not deliver_webhook.options.retry.retries(caught.value)
    assert receiver.received == []


async def test_without_a_job_id_nothing_is_sent(state, receiver):
    with pytest.raises(InvalidRequest, match="job id"):
        await deliver_webhook.function(Context(state=state), receiver.url, {})
    assert receiver.received == []


async def test_410_ends_it(state, receiver):
    receiver.status = 410
    receiver.headers = {"Retry-After": "5"}
    with pytest.raises(HttpStatusError, match="gone for good") as caught:
        await deliver_webhook.function(attempt(state), receiver.url, {})
    assert deliver_webhook.options.retry.decide(caught.value, 1, 15).then == "fail"


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_other_4xx_end_it(state, receiver, status):
    receiver.status = status
    with pytest.raises(HttpStatusError) as caught:
        await deliver_webhook.function(attempt(state), receiver.url, {})
    assert deliver_webhook.options.retry.decide(caught.value, 1, 15).then == "fail"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(state, receiver, status):
    receiver.status = status
    receiver.headers = {"Location": receiver.url}
    with pytest.raises(HttpStatusError, match="has moved") as caught:
        await deliver_webhook.function(attempt(state), receiver.url, {})
    assert not deliver_webhook.options.retry.retries(caught.value)
    assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_obeyed(state, receiver, status):
    receiver.status = status
    receiver.headers = {"Retry-After": "90"}
    with pytest.raises(HttpUnavailable) as caught:
        await deliver_webhook.function(attempt(state), receiver.url, {})
    assert deliver_webhook.options.retry.decide(caught.value, 1, 15).delay >= 90
    receiver.headers = {"Retry-After": formatdate(time.time() + 1000, usegmt=True)}
    with pytest.raises(HttpUnavailable) as caught:
        await deliver_webhook.function(attempt(state), receiver.url, {})
    assert 900 < caught.value.retry_after <= 1000


async def test_an_unavailable_receiver_is_tried_again_for_about_a_day(state, receiver):
    receiver.status = 502
    with pytest.raises(HttpUnavailable) as caught:
        await deliver_webhook.function(attempt(state), receiver.url, {})
    policy = deliver_webhook.options.retry
    assert policy.retries(caught.value)
    longest = sum(policy.backoff(number) for number in range(1, policy.max_attempts))
    assert 24 * 3600 < longest < 2 * 24 * 3600


async def test_a_private_receiver_is_refused(state, receiver, monkeypatch):
    monkeypatch.delenv("BARQUE_HTTP_ALLOW_PRIVATE")
    with pytest.raises(ForbiddenAddress):
        await deliver_webhook.function(attempt(state), receiver.url, {})
    assert receiver.received == []
