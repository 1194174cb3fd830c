"""What went wrong with a request, told to a program as `application/problem+json` (RFC 9457) and to a person as a page.

Owns which error has which status. Neither form quotes what was sent: it may be a secret.
"""

from __future__ import annotations

import http
import traceback
from collections.abc import Mapping

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response

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
from dashboard.visitor import is_known

__all__ = ["Fault", "Problem", "ProblemRaised", "answer_to", "is_for_programs", "refusal", "report"]

API = "/api"
"""Everything below it is for programs."""

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
        report(request, error)
        detail = "an error of the dashboard's own; its log says where"
        problem = Problem(_word(500), _title(500), 500, detail)
    if problem.status == 503:
        headers.setdefault("Retry-After", "2")
    return _response(request, problem, headers)


def report(request: HTTPConnection, error: Exception) -> None:
    """Log an error of the dashboard's own: where it was, and not its message, which may quote what a job was given."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = " > ".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
    log.error("dashboard_error", error=type(error).__name__, path=request.scope.get("path", ""), where=where)


def refusal(request: HTTPConnection, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer to who may not see even a page: a problem below `/api`, else a line of text."""
    if is_for_programs(request):
        return _as_json(Problem(_word(status), _title(status), status, detail), headers)
    return PlainTextResponse(f"{_title(status)}: {detail}\n", status, headers)


def is_for_programs(request: HTTPConnection) -> bool:
    """Whether a request is one to the JSON API."""
    path = str(request.scope["path"]).removeprefix(request.scope.get("root_path", ""))
    return path == API or path.startswith(f"{API}/")


def _response(request: Request, problem: Problem, headers: Mapping[str, str]) -> Response:
    if is_for_programs(request) or not is_known(request):
        return _as_json(problem, headers)
    from dashboard.pages.rendering import page  # noqa: PLC0415 - pages answer with problems themselves

    response = page(request, "problem.html", {"problem": problem}, status=problem.status)
    response.headers.update(headers)
    return response


def _as_json(problem: Problem, headers: Mapping[str, str] | None) -> Response:
    return Response(msgspec.json.encode(problem), problem.status, headers, media_type="application/problem+json")


def _of_ours(error: BarqueError) -> Problem:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    detail = readable(str(error))
    return Problem(_name(type(error)), _title(status), status, detail)


def _name(kind: type[BaseException]) -> str:
    """Return an error's class as a word of a URI: JobNotFound is job-not-found."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip("-")


def _title(status: int) -> str:
    return http.HTTPStatus(status).phrase


def _word(status: int) -> str:
    return _title(status).lower().replace(" ", "-").replace("'", "")
