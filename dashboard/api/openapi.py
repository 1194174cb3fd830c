"""The OpenAPI document, written from the operations and the types they take and return."""

from __future__ import annotations

import http
import inspect
import re
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import msgspec

from dashboard.api.operations import ROOT, Operation
from dashboard.problems import Problem
from dashboard.security.csrf import HEADER

__all__ = ["document_of"]

_PARAMETER = re.compile(r"\{(\w+)\}")
_SCHEMAS = "#/components/schemas/"

_OF_ANY = (400, 401, 403, 413, 429, 503)
_OF_INPUT = (415, 422)

_ABOUT = f"""\
What the dashboard's pages do, for programs; and a way to enqueue from any language.

Errors are `application/problem+json` (RFC 9457): `detail` says what was wrong and what to do, `faults` where. Where \
the dashboard asks for a credential, send `Authorization: Bearer …`. A program in a browser that signs in otherwise \
sends the token of a page, too, in the header `{HEADER}`.

Ids of jobs and names of queues may hold any bytes: in a path each is one segment, percent-encoded. Where an answer \
has an `href`, follow that."""


def document_of(operations: Sequence[Operation], *, root_path: str = "") -> dict[str, Any]:
    """Return the document of these operations.

    Args:
        root_path: the prefix of a proxy.
    """
    sent = [each for one in operations for each in (one.query, one.body) if each is not None]
    types = list(dict.fromkeys([*sent, *(one.answer for one in operations), Problem]))
    references, schemas = msgspec.json.schema_components(types, ref_template=_SCHEMAS + "{name}")
    named = {kind: reference["$ref"].removeprefix(_SCHEMAS) for kind, reference in zip(types, references, strict=True)}
    for schema in schemas.values():
        schema.pop("title", None)
        if "description" in schema:
            schema["description"] = _described(schema["description"])
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        query = schemas[named[one.query]] if one.query is not None else None
        paths.setdefault(ROOT + one.path, {})[one.method.lower()] = _operation(one, named, query)
    for kind in {one.query for one in operations if one.query is not None}:
        del schemas[named[kind]]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Barque", "version": _version(), "description": _ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": root_path or "/"}],
        "security": [{}, {"bearer": []}, {"basic": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(one.tag for one in operations)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
            "responses": {"Problem": _problem()},
        },
    }


def _operation(one: Operation, named: dict[Any, str], query: dict[str, Any] | None) -> dict[str, Any]:
    summary, _, more = one.description.partition("\n\n")
    found: dict[str, Any] = {"operationId": one.name, "summary": summary.rstrip("."), "tags": [one.tag]}
    if more:
        found["description"] = more
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(one.path)
    ]
    if query is not None:
        parameters += _query_parameters(query)
    if parameters:
        found["parameters"] = parameters
    if one.body is not None:
        required = any(each.required for each in msgspec.structs.fields(one.body))
        found["requestBody"] = {"required": required, "content": _content("application/json", named[one.body])}
    inputs = _OF_INPUT if parameters or one.body is not None else ()
    failures = sorted({*_OF_ANY, *inputs, *one.problems})
    found["responses"] = {
        **{
            str(status): {
                "description": http.HTTPStatus(status).phrase,
                "content": _content("application/json", named[one.answer]),
            }
            for status in one.statuses
        },
        **{str(status): {"$ref": "#/components/responses/Problem"} for status in failures},
    }
    return found


def _query_parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name, kind in schema["properties"].items():
        # That nothing is given is said by leaving it out.
        options = [each for each in kind.get("anyOf", [kind]) if each != {"type": "null"}]
        only: dict[str, Any] = options[0] if len(options) == 1 else {"anyOf": options}
        description = kind.get("description")
        made: dict[str, Any] = {"name": name, "in": "query", "required": name in schema.get("required", ())}
        if description:
            made["description"] = description
        made["schema"] = {
            key: value for key, value in {**only, "default": kind.get("default")}.items() if value is not None
        }
        made["schema"].pop("description", None)
        found.append(made)
    return found


def _content(media: str, schema: str) -> dict[str, Any]:
    return {media: {"schema": {"$ref": _SCHEMAS + schema}}}


def _problem() -> dict[str, Any]:
    return {"description": "What went wrong", "content": _content("application/problem+json", Problem.__name__)}


def _described(docstring: str) -> str:
    """Return a docstring without its list of attributes, which describe themselves."""
    return inspect.cleandoc(docstring).partition("\n\nAttributes:")[0]


def _version() -> str:
    try:
        return metadata.version("barque")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "0"
