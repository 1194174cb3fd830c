"""Check a job's arguments against the task's annotations, while they are decoded.

Owns the reading of one function's signature and the decoder built from it, once, when the task is
registered with a worker. Knows no payload layout: it takes the two msgpack parts, positional and keyword.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from common.errors import ArgumentMismatch, ConfigurationError
from common.values import MALFORMED, ValueReader, complaint, decode_hook

__all__ = ["ArgumentReader", "return_reader"]

_EMPTY_MAP = (msgspec.Raw(b"\x80"), b"\x80")
_NO_KEYWORDS: dict[str, Any] = {}
_Kind = inspect.Parameter
_raw_list = msgspec.msgpack.Decoder(list[msgspec.Raw])
_raw_map = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_ABSENT: Any = object()
_astuple = msgspec.structs.astuple


class ArgumentReader:
    """Decode the arguments of one task.

    The common case, positional arguments only, is one call into msgspec. Keywords, `*args` and
    types that only pydantic can check take a slower way with the same answers.
    """

    def __init__(self, function: Callable[..., Any], task: str) -> None:
        self.task = task
        hints = hints_of(function, task)
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters or parameters[0].kind not in {_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD}:
            raise ConfigurationError(f"task {task!r}: its first parameter must be the context (ctx: Context)")
        parameters = parameters[1:]
        self._readers = {p.name: ValueReader(hints.get(p.name, Any)) for p in parameters}
        self._positional = [p for p in parameters if p.kind in {_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD}]
        self._keyword_only = [p for p in parameters if p.kind is _Kind.KEYWORD_ONLY]
        self._rest = next((p for p in parameters if p.kind is _Kind.VAR_POSITIONAL), None)
        self._rest_keyword = next((p for p in parameters if p.kind is _Kind.VAR_KEYWORD), None)
        self._fast = self._fast_decoder()

    def read(
        self, positional: bytes | msgspec.Raw, keyword: bytes | msgspec.Raw
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments as the annotations say.

        Args:
            positional: a msgpack array.
            keyword: a msgpack map.

        What is returned is for reading alone.

        Raises:
            ArgumentMismatch: one is missing, unknown or of the wrong type; the message names it.
        """
        if self._fast is not None and keyword in _EMPTY_MAP:
            try:
                args = self._fast.decode(positional)
                return args if type(args) is tuple else _astuple(args), _NO_KEYWORDS
            except MALFORMED as error:
                self._explain(error)
            except Exception:  # noqa: S110 - a user's own type raised while it was made: the slow way says which
                pass
        return self._read_each(positional, keyword)

    def _fast_decoder(self) -> msgspec.msgpack.Decoder[Any] | None:
        if self._rest or self._keyword_only or not all(self._readers[p.name].native for p in self._positional):
            return None
        fields: list[Any] = []
        for parameter in self._positional:
            annotation = self._readers[parameter.name].annotation
            if parameter.default is _Kind.empty:
                fields.append((parameter.name, annotation))
            else:
                # msgspec refuses mutable defaults; like Python, share the function's own.
                factory = msgspec.field(default_factory=functools.partial(_same, parameter.default))
                fields.append((parameter.name, annotation, factory))
        try:
            arguments: Any = msgspec.defstruct("Arguments", fields, array_like=True, forbid_unknown_fields=True)
            if all(len(field) == 2 for field in fields):  # no defaults; and by now msgspec has seen the types
                arguments = tuple[tuple(annotation for _, annotation in fields)]  # type: ignore[misc]
            return msgspec.msgpack.Decoder(arguments, dec_hook=decode_hook)
        except (TypeError, ValueError):
            return None  # a parameter named like something msgspec reserves: the slow way serves

    def _explain(self, error: Exception) -> None:
        """Raise for the argument that was wrong, by name; return if only the count was."""
        path, text = complaint(error)
        found = re.match(r"\[(\d+)\](.*)$", path)
        if found and int(found[1]) < len(self._positional):
            name = self._positional[int(found[1])].name
            raise ArgumentMismatch(f"{self.task}: argument {name}{found[2]}: {text}") from None

    def _read_each(
        self, positional: bytes | msgspec.Raw, keyword: bytes | msgspec.Raw
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            given = _raw_list.decode(positional)
            named = _raw_map.decode(keyword)
        except MALFORMED as error:
            why = complaint(error)[1]
            raise ArgumentMismatch(f"{self.task}: the arguments are not a list and a map: {why}") from None
        args: list[Any] = []
        for index, parameter in enumerate(self._positional):
            raw = _ABSENT
            if index < len(given):
                raw = given[index]
                if parameter.name in named and parameter.kind is _Kind.POSITIONAL_OR_KEYWORD:
                    raise ArgumentMismatch(f"{self.task}: argument {parameter.name} is given twice")
            elif parameter.kind is _Kind.POSITIONAL_OR_KEYWORD:
                raw = named.pop(parameter.name, _ABSENT)
            args.append(self._one(parameter, raw))
        extra = given[len(self._positional) :]
        if extra and self._rest is None:
            count = len(self._positional)
            raise ArgumentMismatch(f"{self.task}: takes {count} positional argument(s), got {len(given)}")
        if extra and self._rest is not None:
            reader = self._readers[self._rest.name]
            args.extend(
                reader.read(raw, f"{self.task}: argument {self._rest.name}[{i}]") for i, raw in enumerate(extra)
            )
        return tuple(args), self._read_named(named)

    def _read_named(self, named: dict[str, msgspec.Raw]) -> dict[str, Any]:
        kwargs = {p.name: self._one(p, named.pop(p.name, _ABSENT)) for p in self._keyword_only}
        if named and self._rest_keyword is None:
            known = ", ".join(self._readers) or "none"
            raise ArgumentMismatch(f"{self.task}: no argument is called {next(iter(named))!r}; it takes: {known}")
        if self._rest_keyword is not None:
            reader = self._readers[self._rest_keyword.name]
            kwargs.update({k: reader.read(raw, f"{self.task}: argument {k}") for k, raw in named.items()})
        return kwargs

    def _one(self, parameter: inspect.Parameter, raw: Any) -> Any:
        if raw is _ABSENT:
            if parameter.default is _Kind.empty:
                raise ArgumentMismatch(f"{self.task}: argument {parameter.name} is missing")
            return parameter.default
        return self._readers[parameter.name].read(raw, f"{self.task}: argument {parameter.name}")


def _same(value: Any) -> Any:
    return value


def return_reader(function: Callable[..., Any], task: str) -> ValueReader:
    """Return a reader for what the function's return annotation says."""
    annotation = hints_of(function, task).get("return", Any)
    return ValueReader(type(None) if annotation is None else annotation)


def hints_of(function: Callable[..., Any], task: str) -> dict[str, Any]:
    """Return the annotations of a task's function, resolved.

    Raises:
        ConfigurationError: one cannot be.
    """
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"task {task!r}: an annotation cannot be resolved ({error}). Barque checks arguments against "
            "annotations when a job runs, so import the type at run time, not only under TYPE_CHECKING."
        ) from None
