"""The HTTP API, from the OpenAPI document that the dashboard itself serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dashboard.api.openapi import document_of
from dashboard.api.operations import ROOT
from dashboard.api.routes import OPERATIONS

_SCHEMAS = "#/components/schemas/"


def openapi() -> str:
    """Return the document itself, as JSON."""
    return json.dumps(document_of(OPERATIONS), indent=1)


def http_api() -> str:
    """Return its operations, a heading each under that of their subject, and then the types they take and return."""
    document = document_of(OPERATIONS)
    parts = [document["info"]["description"]]
    for tag in document["tags"]:
        parts.append(f"## {tag['name'].capitalize()}")
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag["name"]]:
                    parts += _operation(method.upper(), path, operation)
    parts.append("## Types")
    for name, schema in document["components"]["schemas"].items():
        parts += _type(name, schema)
    return "\n\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {method} {path.removeprefix(ROOT)}"
    yield f"{operation['summary']}."
    if "description" in operation:
        yield operation["description"]
    if parameters := operation.get("parameters", []):
        rows = [
            f"| `{each['name']}` | {each['in']} | {_kind(each['schema'])} | {_about(each)} |" for each in parameters
        ]
        yield "\n".join(["| Parameter | In | Type | |", "|---|---|---|---|", *rows])
    answers = {status: _content(answer) for status, answer in operation["responses"].items() if "$ref" not in answer}
    problems = [status for status, answer in operation["responses"].items() if "$ref" in answer]
    said = [f"Body: {_content(operation['requestBody'])}."] if "requestBody" in operation else []
    said += [f"Answers: {', '.join(f'{status} with {content}' for status, content in answers.items())};"]
    yield " ".join([*said, f"[problems](#type-problem): {', '.join(problems)}."])


def _type(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name} {{: #type-{name.lower()} }}"
    if "description" in schema:
        yield schema["description"]
    if "properties" not in schema:
        yield _kind(schema)
        return
    required = schema.get("required", ())
    rows = [
        f"| `{key}`{'' if key in required else ' (may be left out)'} | {_kind(each)} | {_about(each)} |"
        for key, each in schema["properties"].items()
    ]
    yield "\n".join(["| Field | Type | |", "|---|---|---|", *rows])


def _content(message: dict[str, Any]) -> str:
    ((_, content),) = message["content"].items()
    return _kind(content["schema"])


def _about(described: dict[str, Any]) -> str:
    said = described.get("description") or described.get("schema", {}).get("description") or ""
    default = described.get("schema", described).get("default")
    if default not in {None, ""} if isinstance(default, str | int | float | None) else default:
        said = f"{said}{'. ' if said else ''}Default: `{json.dumps(default)}`"
    return said.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_SCHEMAS)
        return f"[{name}](#type-{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    named = schema.get("format") or kind
    return " ".join([named, *([f"({', '.join(bounds)})"] if bounds else [])])


_BOUNDS = {
    "minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "less than",
    "minLength": "length at least", "maxLength": "length at most", "minItems": "at least", "maxItems": "at most",
}  # fmt: skip
