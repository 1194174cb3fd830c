import pytest
from starlette.requests import Request
from starlette.responses import Response

from dashboard.pages import notices
from dashboard.pages.notices import Notice


def request(cookie: str = "", root: str = "", scheme: str = "http") -> Request:
    headers = [(b"cookie", cookie.encode()), (b"host", b"localhost")]
    return Request(
        {"type": "http", "headers": headers, "root_path": root, "scheme": scheme, "path": "/", "query_string": b""}
    )


def carried(notice: Notice) -> tuple[Notice | None, str]:
    """Return a notice as the next page has it, and the cookie it came in."""
    response = Response()
    notices.give(request(root="/barque", scheme="https"), response, notice)
    cookie = response.headers["set-cookie"]
    return notices.read(request(cookie.partition(";")[0])), cookie


def test_what_is_said_arrives_once():
    said, cookie = carried(Notice("Päused; “all” of it,\nby \udcff <b>", "plain"))
    assert said == Notice("Päused; “all” of it,\nby \\udcff <b>", "plain")
    assert "Path=/barque" in cookie
    assert "HttpOnly" in cookie
    assert "Secure" in cookie
    response = Response()
    notices.forget(request(cookie.partition(";")[0]), response)
    assert "Max-Age=0" in response.headers["set-cookie"]


@pytest.mark.parametrize("letter", ["a", "ä", "\udcff"])
def test_a_long_text_is_cut_to_what_a_cookie_holds(letter):
    said, cookie = carried(Notice(letter * 5000, "bad"))
    assert len(cookie) < 4000
    assert said.text.endswith("…")
    assert said.tone == "bad"


@pytest.mark.parametrize("cookie", ["", "barque_said=", "barque_said=good", "barque_said=odd:x", "barque_said=good:"])
def test_what_nobody_said_is_not_shown(cookie):
    assert notices.read(request(cookie)) is None
