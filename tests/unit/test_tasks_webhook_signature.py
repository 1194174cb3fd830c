"""Webhook signatures, against the specification's own example and a computation made here."""

import base64
import hashlib
import hmac

import pytest

from common.errors import ConfigurationError
from workers.tasks.webhook_signature import signed_headers, signing_keys

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_example_of_the_reference_implementations():
    # From the tests of the Standard Webhooks libraries.
    headers = signed_headers(
        [base64.b64decode(SECRET.removeprefix("whsec_"))],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_an_id_that_is_no_header_text_is_escaped_and_signed_as_sent():
    headers = signed_headers([b"key"], "job\r\nX-Evil: 1 é", 1, b"{}")
    name = headers["webhook-id"]
    assert name == "job%0D%0AX-Evil:%201%20%C3%A9"
    expected = hmac.new(b"key", f"{name}.1.{{}}".encode(), hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}"


def test_while_a_secret_is_replaced_both_sign(monkeypatch):
    monkeypatch.setenv("BARQUE_WEBHOOK_SECRET", f"{SECRET} whsec_bmV3")
    keys = signing_keys(None)
    assert keys[1] == b"new"
    signatures = signed_headers(keys, "a", 1, b"")["webhook-signature"].split()
    assert [s[:3] for s in signatures] == ["v1,", "v1,"]
    assert len(set(signatures)) == 2


def test_a_named_secret_has_its_own_variable(monkeypatch):
    monkeypatch.setenv("BARQUE_WEBHOOK_SECRET_ACME", "whsec_YWNtZQ==")
    assert signing_keys("acme") == [b"acme"]


@pytest.mark.parametrize("name", [None, "acme"])
def test_a_missing_secret_names_its_variable(name):
    with pytest.raises(ConfigurationError, match="set BARQUE_WEBHOOK_SECRET"):
        signing_keys(name)


@pytest.mark.parametrize("name", ["", "a-b", "é", "a b"])
def test_a_job_names_a_secret_and_nothing_else_of_the_environment(name):
    with pytest.raises(ConfigurationError, match="letters, digits"):
        signing_keys(name)


@pytest.mark.parametrize("value", ["hunter2", "whsec_", "whsec_hunter2!", "aHVudGVyMg=="])
def test_a_malformed_secret_is_refused_without_being_shown(monkeypatch, value):
    monkeypatch.setenv("BARQUE_WEBHOOK_SECRET", value)
    with pytest.raises(ConfigurationError, match="whsec_ followed by base64") as caught:
        signing_keys(None)
    assert "hunter2" not in str(caught.value)
