"""dashboard/routing.py: paths whose parameters are any bytes."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import JSONResponse

from dashboard.routing import ExactRoute, path_to, segment

ROUTES = ["/jobs", "/jobs/{job_id}", "/jobs/{job_id}/abort", "/jobs/{job_id}/notes/{number}", "/"]


def echo(template):
    async def endpoint(request):
        return JSONResponse([template, {name: ascii(value) for name, value in request.path_params.items()}])

    return endpoint


APP = Starlette(routes=[ExactRoute(path, echo(path), methods=["GET", "POST"]) for path in ROUTES])


async def ask(path, method="GET"):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://localhost") as client:
        return await client.request(method, path)


@pytest.mark.parametrize(
    "job_id", ["a", "a/b", "a b", "a%2Fb", "ä", "\udcff\udc80", "?x=1#y", "..", ".", "a/../b", ";,:@", "\x00"]
)
async def test_an_id_comes_back_as_it_was(job_id):
    response = await ask(path_to("/jobs/{job_id}/abort", job_id=job_id))
    assert response.json() == ["/jobs/{job_id}/abort", {"job_id": ascii(job_id)}]


@given(st.binary(min_size=1))
def test_whatever_bytes_it_has(raw):
    text = raw.decode(errors="surrogateescape")
    route = ExactRoute("/jobs/{job_id}", echo("x"))
    path = path_to("/jobs/{job_id}", job_id=text)
    _, found = route.matches({"type": "http", "method": "GET", "path": "", "raw_path": path.encode()})
    assert found["path_params"] == {"job_id": text}
    assert segment(text) not in {".", ".."}


@pytest.mark.parametrize("path", ["/jobs/", "/jobs//abort", "/jobs/a/abort/", "/job", "/jobs/a/b", "/JOBS"])
async def test_what_is_not_there_is_not_found(path):
    assert (await ask(path)).status_code == 404


async def test_another_method_is_not_allowed():
    response = await ask("/jobs/a", "DELETE")
    assert (response.status_code, set(response.headers["allow"].split(", "))) == (405, {"GET", "HEAD", "POST"})


@pytest.mark.parametrize("path", ["/barque/jobs/a%2Fb", "/jobs/a%2Fb"])
def test_the_prefix_of_a_proxy_is_no_part_of_it(path):
    scope = {"type": "http", "method": "GET", "path": "", "raw_path": path.encode(), "root_path": "/barque"}
    _, found = ExactRoute("/jobs/{job_id}", echo("x")).matches(scope)
    assert found["path_params"] == {"job_id": "a/b"}
