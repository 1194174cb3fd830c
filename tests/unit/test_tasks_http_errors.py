"""What an HTTP status means for a retry, and what of a URL may be seen."""

import traceback

import pytest

from common import Retry
from workers.tasks import deliver_webhook, download_file, fetch_url
from workers.tasks.http_errors import (
    ForbiddenAddress,
    HttpConnectionError,
    HttpStatusError,
    HttpTimeout,
    HttpUnavailable,
    check_status,
    masked,
)


def check(status, headers=None, url="https://example.org/a"):
    check_status(status, headers or {}, method="GET", url=url)


@pytest.mark.parametrize("status", [200, 204, 206, 304, 399])
def test_a_status_below_400_is_no_error(status):
    check(status)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 451])
def test_other_4xx_are_final(status):
    with pytest.raises(HttpStatusError) as caught:
        check(status, {"Retry-After": "5"})
    assert caught.value.status == status
    assert str(status) in str(caught.value)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_statuses_that_may_pass_are_unavailable(status):
    with pytest.raises(HttpUnavailable) as caught:
        check(status)
    assert caught.value.status == status


@pytest.mark.parametrize("status", [429, 503])
def test_the_error_carries_what_retry_after_asks_for_and_the_policy_heeds_it(status):
    with pytest.raises(HttpUnavailable, match="asked to wait 17 s") as caught:
        check(status, {"Retry-After": "17"})
    assert caught.value.retry_after == 17
    assert fetch_url.options.retry.decide(caught.value, 1, 5).delay >= 17
    with pytest.raises(HttpUnavailable) as caught:
        check(status, {"Retry-After": "soon"})
    assert caught.value.retry_after is None


@pytest.mark.parametrize("task", [fetch_url, download_file, deliver_webhook])
def test_the_policies_retry_what_may_pass_and_nothing_else(task):
    policy = task.options.retry
    for error in (
        HttpUnavailable("", status=503, url=""),
        HttpConnectionError(),
        HttpTimeout(),
        Retry(after=1),
    ):
        assert policy.retries(error)
    for error in (HttpStatusError("", status=404, url=""), ForbiddenAddress()):
        assert not policy.retries(error)


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("https://user:hunter2@example.org:8443/a?token=s3cret#frag", "https://example.org:8443/a?…"),
        ("https://u%40x:p@[2001:db8::1]/", "https://[2001:db8::1]/"),
        ("https://a:b@c:hunter2@example.org/", "https://example.org/"),
        ("http://[half", "(a URL that cannot be read)"),
        # Without its escapes a password looks like a port, a path, a query or a fragment.
        ("http://user:hun/ter2@example.org/", "(a URL that cannot be read)"),
        ("http://user:hun?ter2@example.org/", "(a URL that cannot be read)"),
        ("http://user:hun#ter2@example.org/", "(a URL that cannot be read)"),
        ("http:user:hunter2@example.org/", "(a URL without a host)"),
        ("user:hunter2@example.org", "(a URL without a host)"),
        ("ftp://user:hunter2@example.org/", "ftp://example.org/"),
    ],
)
def test_masked_urls_show_no_secret(url, seen):
    assert masked(url) == seen


def test_no_part_of_the_error_shows_the_query():
    with pytest.raises(HttpUnavailable) as caught:
        check(503, {"Retry-After": "1"}, url="https://user:hunter2@example.org/?token=s3cret")
    shown = "".join(traceback.format_exception(caught.value, limit=0))
    assert "hunter2" not in shown
    assert "s3cret" not in shown
