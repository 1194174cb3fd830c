"""What went wrong with a request, told to a program as `application/problem+json` (RFC 9457) and to a person as a page.

Owns which error has which status. Neither form quotes what was sent: it may be a secret.
"""

from __future__ import annotations

import http
import traceback
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from common.errors import (
    BarqueError,
    ConfigurationError,
    DuplicateJob,
    JobNotFound,
    JobNotWaiting,
    PayloadError,
    PayloadTooLarge,
    RedisUnavailable,
    ScheduleExists,
    ScheduleNotFound,
    TaskNotFound,
)
from dashboard.security.masking import readable

__all__ = ["Fault", "Problem", "ProblemRaised", "answer_to"]

API = "/api/"

log = structlog.get_logger("barque.dashboard")

_STATUS: dict[type[BarqueError], int] = {
    ScheduleExists: 409,
    ConfigurationError: 422,
    PayloadTooLarge: 413,
    PayloadError: 422,
    RedisUnavailable: 503,
    ScheduleNotFound: 404,
    TaskNotFound: 404,
    DuplicateJob: 409,
    JobNotFound: 404,
    JobNotWaiting: 409,
}
"""The first that fits; what is not among them is an error of the dashboard's own."""


class Fault(msgspec.Struct):
    """One thing that is wrong with a request.

    Attributes:
        where: `body.options.delay`, `query.limit`, `path.job_id`, `header.host`.
        detail: what is wrong there.
    """

    where: str
    detail: str


class Problem(msgspec.Struct, omit_defaults=True):
    """What went wrong, after RFC 9457.

    Attributes:
        type: a word for it that programs may go by, as a relative URI.
        title: the status in words.
        detail: what was wrong, where, and what to do.
        faults: each thing that was wrong with the request.
    """

    type: str
    title: str
    status: int
    detail: str
    faults: list[Fault] = msgspec.field(default_factory=list)


class ProblemRaised(Exception):
    """Ends a request with a problem.

    Args:
        status: of HTTP.
        detail: what was wrong, and what to do.
        faults: where in the request.
        headers: of the answer.
    """

    def __init__(
        self, status: int, detail: str, *faults: Fault, headers: Mapping[str, str] | None = None, kind: str = ""
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(kind or _word(status), _title(status), status, detail, list(faults))
        self.headers = dict(headers or {})


def answer_to(request: Request, error: Exception) -> Response:
    """Return the answer for an error: problem+json below `/api`, else a page."""
    headers: dict[str, str] = {}
    if isinstance(error, ProblemRaised):
        problem, headers = error.problem, error.headers
    elif isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        problem = Problem(_word(error.status_code), _title(error.status_code), error.status_code, error.detail)
    elif isinstance(error, BarqueError):
        problem = _of_ours(error)
    else:
        # Without its message, which may quote what a job was given.
        where = "".join(traceback.format_tb(error.__traceback__)[-6:])
        log.error("dashboard_error", error=type(error).__name__, path=request.scope.get("path", ""), where=where)
        detail = "an error of the dashboard's own; its log says where"
        problem = Problem(_word(500), _title(500), 500, detail)
    if problem.status == 503:
        headers.setdefault("Retry-After", "2")
    return _response(request, problem, headers)


def _response(request: Request, problem: Problem, headers: dict[str, str]) -> Response:
    if _wants_json(request):
        body = msgspec.json.encode(problem)
        return Response(body, problem.status, headers, media_type="application/problem+json")
    from dashboard.pages.rendering import page  # noqa: PLC0415 - pages answer with problems themselves

    response = page(request, "problem.html", {"problem": problem}, status=problem.status)
    response.headers.update(headers)
    return response


def _wants_json(request: Request) -> bool:
    root = request.scope.get("root_path", "")
    return str(request.scope["path"]).removeprefix(root).startswith(API)


def _of_ours(error: BarqueError) -> Problem:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    detail = readable(str(error))
    faults: list[Any] = []
    return Problem(_name(type(error)), _title(status), status, detail, faults)


def _name(kind: type[BaseException]) -> str:
    """Return an error's class as a word of a URI: JobNotFound is job-not-found."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip("-")


def _title(status: int) -> str:
    return http.HTTPStatus(status).phrase


def _word(status: int) -> str:
    return _title(status).lower().replace(" ", "-").replace("'", "")
