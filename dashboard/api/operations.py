"""Operations of the API: how one is declared, how a request becomes its arguments, and its answer JSON.

Owns reading and checking of what was sent, by the types that a handler's parameters name; openapi.py describes the same
types, so that what is told cannot differ from what is done.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from common.values import complaint
from dashboard.context import Dashboard, dashboard_of
from dashboard.problems import Fault, ProblemRaised
from dashboard.routing import ExactRoute, path_to
from dashboard.visitor import Visitor, visitor_of
from producer import Producer

__all__ = ["ROOT", "Asked", "Operation", "no_such", "operation"]

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

ROOT = "/api/v1"

Method = Literal["GET", "POST", "DELETE"]
Handler = Callable[..., Awaitable[msgspec.Struct]]


@dataclass(slots=True)
class Asked:
    """What a handler is given besides what was sent.

    Attributes:
        path: parameters of the path; an id may be any bytes (surrogateescape).
        status: of the answer; a handler may say another one that its operation names.
        headers: of the answer.
    """

    request: Request
    dashboard: Dashboard
    visitor: Visitor
    path: Mapping[str, str]
    status: int
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(self, asked: str, question: Callable[[Producer], Awaitable[T]]) -> T:
        """Return what is asked of the producer; see `Source.ask`."""
        return await self.dashboard.source.ask(asked, question)

    def href(self, template: str, **parameters: str) -> str:
        """Return the address of something below the API's root, with the prefix of a proxy."""
        return str(self.request.scope.get("root_path", "")) + ROOT + path_to(template, **parameters)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        path: below `ROOT`.
        statuses: of success, the usual one first.
        problems: statuses of its own failures, besides those that any has.
        query, body: types of what is sent; None where nothing is.
        answer: the type of the answer.
    """

    method: Method
    path: str
    handler: Handler
    tag: str
    statuses: tuple[int, ...]
    problems: tuple[int, ...]
    query: type[msgspec.Struct] | None
    body: type[msgspec.Struct] | None
    answer: Any

    @property
    def name(self) -> str:
        """What it is called in generated clients."""
        return self.handler.__name__

    @property
    def description(self) -> str:
        """What it does."""
        return inspect.cleandoc(self.handler.__doc__ or "")

    def route(self) -> ExactRoute:
        """Return the route that answers it."""
        return ExactRoute(ROOT + self.path, self._answer, methods=[self.method], name=self.name)

    async def _answer(self, request: Request) -> Response:
        asked = Asked(request, dashboard_of(request), visitor_of(request), request.path_params, self.statuses[0])
        arguments: dict[str, Any] = {"asked": asked}
        given = _read_query(request)
        if self.query is not None:
            arguments["query"] = _convert(given, self.query)
        elif given:
            raise ProblemRaised(
                422, "it takes no parameters behind the ?", *(Fault(f"query.{name}", "unknown") for name in given)
            )
        if self.body is not None:
            arguments["body"] = await _read_body(request, self.body)
        document = await self.handler(**arguments)
        body = msgspec.json.encode(document)
        return Response(body, asked.status, asked.headers, media_type="application/json")


def operation(
    method: Method, path: str, *, tag: str, statuses: tuple[int, ...] = (200,), problems: tuple[int, ...] = ()
) -> Callable[[Handler], Operation]:
    """Declare the operation that a coroutine function is.

    Its parameters are `asked`, and `query` and `body` where something is sent, annotated with the types of that.
    """

    def declare(handler: Handler) -> Operation:
        hints = typing.get_type_hints(handler, include_extras=True)
        return Operation(
            method, path, handler, tag, statuses, problems, hints.get("query"), hints.get("body"), hints["return"]
        )

    return declare


def no_such(what: str) -> ProblemRaised:
    """Return the problem of something that is not there."""
    return ProblemRaised(404, f"there is no such {what}")


def _read_query(request: Request) -> dict[str, Any]:
    text = request.scope["query_string"].decode("latin-1")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=100)
    except ValueError:
        raise ProblemRaised(400, "there are too many parameters behind the ?") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name.encode(errors="backslashreplace").decode(), []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _convert(given: dict[str, Any], kind: type[S]) -> S:
    for each in msgspec.structs.fields(kind):
        if _is_list(each.type) and isinstance(given.get(each.encode_name), str):
            given[each.encode_name] = [given[each.encode_name]]
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _unfit("query", error) from None


def _is_list(kind: Any) -> bool:
    return any(typing.get_origin(each) is list for each in (kind, *typing.get_args(kind)))


async def _read_body(request: Request, kind: type[S]) -> S:
    raw = await request.body()
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if raw and media != "application/json":
        raise ProblemRaised(415, "the body has to be JSON, and its Content-Type application/json")
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise _unfit("body", error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _, why = complaint(error)
        raise ProblemRaised(400, f"the body is no JSON: {why}") from None


def _unfit(part: str, error: msgspec.ValidationError) -> ProblemRaised:
    where, why = complaint(error)
    return ProblemRaised(422, f"{part}{where}: {why}", Fault(f"{part}{where}", why), kind="unfit")
