"""How Python values become bytes, and typed values again.

Owns the encoder, the hooks for types msgspec does not know, and `ValueReader`, which decodes bytes to
what an annotation says. Knows no payload layout (that is codec.py) and no task (tasks.py).
"""

from __future__ import annotations

import re
import sys
import typing
from collections.abc import Container, Iterable, Mapping, Reversible, Sequence
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from common.errors import ArgumentMismatch, NotSerializable

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

__all__ = ["MALFORMED", "ValueReader", "canonical", "complaint", "encode", "encoder", "to_plain", "unserializable_part"]

MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes that are not what was asked for: wrong, cut short, not UTF-8, nested without end."""


def _is_model(kind: type) -> bool:
    """Whether this is a pydantic model; without importing pydantic, which takes a worker that has none 10 MB."""
    module = sys.modules.get("pydantic.main")
    base = getattr(module, "BaseModel", None)  # None while another thread imports it
    return base is not None and issubclass(kind, base)


def _encode_hook(value: Any) -> Any:
    if _is_model(type(value)):
        return value.model_dump(mode="python")
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(f"{type(value).__module__}.{type(value).__qualname__}")


def _decode_hook(kind: type, value: Any) -> Any:
    if isinstance(kind, type):
        if isinstance(value, kind):
            return value
        if _is_model(kind):
            from pydantic import ValidationError  # noqa: PLC0415 - who has a model has imported it

            model: Any = kind
            try:
                return model.model_validate(value)
            except ValidationError as error:
                raise ValueError(_describe(error)) from None
        if issubclass(kind, PurePath) and isinstance(value, str):
            return kind(value)
    name = getattr(kind, "__qualname__", repr(kind))
    raise TypeError(f"Expected `{name}`, got `{type(value).__name__}`, which Barque cannot convert")


encoder = msgspec.msgpack.Encoder(enc_hook=_encode_hook)
_canonical = msgspec.msgpack.Encoder(enc_hook=_encode_hook, order="sorted")
_plain = msgspec.msgpack.Decoder()


def encode(value: Any, *, what: str = "value") -> bytes:
    """Return the value as msgpack.

    Args:
        value: any mix of plain data, dataclasses, msgspec structs, pydantic models, datetime, UUID,
            Decimal, Enum, bytes, sets and paths.
        what: names the value in the error.

    Raises:
        NotSerializable: a part has no form on the wire; the message has the path to it.
    """
    try:
        return encoder.encode(value)
    except Exception as error:  # a user's own type may raise anything while it is walked
        part = unserializable_part(value, what) or f"{what}: {type(error).__name__}: {error}"
        raise NotSerializable(f"cannot be sent: {part}") from error


def canonical(value: Any, *, what: str = "value") -> bytes:
    """Return the value as msgpack that is the same for all that is equal: maps and sets are in order.

    Raises:
        NotSerializable: see `encode`.
    """
    try:
        return _canonical.encode(value)
    except Exception:
        encode(value, what=what)  # says which part it is
        raise NotSerializable(f"cannot be sent: {what} has parts that cannot be put in order") from None


def to_plain(raw: bytes | msgspec.Raw) -> Any:
    """Return msgpack as plain data: numbers, text, bytes, lists, dicts, datetimes."""
    return _plain.decode(raw)


def unserializable_part(value: Any, path: str) -> str | None:
    """Return the path and type of the first part that has no form on the wire, or None."""
    try:
        encoder.encode(value)
    except RecursionError:
        return f"{path} is nested too deep, or holds itself"
    except Exception as error:
        try:
            inner = (unserializable_part(item, path + where) for where, item in _parts(value))
            found = next((found for found in inner if found), None)
        except Exception:  # a user's own type may raise anything while it is walked
            found = None
        return found or _complaint(value, path, error)
    return None


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", item) for key, item in value.items()]
    if isinstance(value, Sequence | AbstractSet) and not isinstance(value, str | bytes):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    fields: Any = getattr(value, "__dataclass_fields__", None) or getattr(value, "__struct_fields__", ())
    return [(f".{name}", getattr(value, name, None)) for name in fields]


def _complaint(value: Any, path: str, error: Exception) -> str:
    if isinstance(value, int):
        return f"{path} is an integer past 64 bits"
    kind = type(value)
    why = "" if isinstance(error, NotImplementedError) else f" ({error})"
    return f"{path} is of type {kind.__module__}.{kind.__qualname__}{why}"


class ValueReader:
    """Decode msgpack to what one annotation says.

    msgspec does it where it can (fast, and strict: "1" is no int); pydantic where msgspec cannot,
    such as a union of two models.
    """

    __slots__ = ("_adapter", "_decoder", "annotation")

    def __init__(self, annotation: Any) -> None:
        origin = typing.get_origin(annotation) or annotation
        if origin in {Iterable, Container, Reversible, typing.Iterable, typing.Container, typing.Reversible}:
            # What travels is an array; msgspec has no form for these wider words.
            annotation = list[typing.get_args(annotation) or Any]  # type: ignore[misc]
        self.annotation = annotation
        self._adapter: TypeAdapter[Any] | None = None
        if getattr(annotation, "_is_protocol", False):  # says what a value can do; plain data is all there is
            self._decoder = msgspec.msgpack.Decoder(Any)
            return
        try:
            self._decoder = msgspec.msgpack.Decoder(annotation, dec_hook=_decode_hook)
        except TypeError:
            self._decoder = msgspec.msgpack.Decoder(Any)
            from pydantic import TypeAdapter  # noqa: PLC0415 - for the few annotations that msgspec cannot check

            try:
                self._adapter = TypeAdapter(annotation)
            except Exception:
                self._adapter = None  # a TypeVar, …: nothing to check against

    @property
    def native(self) -> bool:
        """Whether msgspec alone reads it, so that it may be a field of a larger decoder."""
        return self._adapter is None and self._decoder.type is self.annotation

    def read(self, raw: bytes | msgspec.Raw, name: str) -> Any:
        """Return the value.

        Raises:
            ArgumentMismatch: it is not what the annotation says; the message starts with `name`
                and the path to the field.
        """
        try:
            value = self._decoder.decode(raw)
            return value if self._adapter is None else self._validated(self._adapter, value, name)
        except ArgumentMismatch:
            raise
        except MALFORMED as error:
            where, why = complaint(error)
            raise ArgumentMismatch(f"{name}{where}: {why}") from None
        except Exception as error:  # a user's own type may raise anything while it is made; what, may be a secret
            raise ArgumentMismatch(f"{name}: making it raised {type(error).__name__}") from None

    @staticmethod
    def _validated(adapter: TypeAdapter[Any], value: Any, name: str) -> Any:
        from pydantic import ValidationError  # noqa: PLC0415 - see `__init__`

        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            raise ArgumentMismatch(f"{name}: {_describe(error)}") from None


def decode_hook(kind: type, value: Any) -> Any:
    """Convert for types msgspec does not know; for decoders built elsewhere in `common`."""
    return _decode_hook(kind, value)


def _describe(error: ValidationError) -> str:
    # Without inputs: an argument may be a secret, and this text reaches logs.
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'value'}: {p['msg']}" for p in problems)


def complaint(error: Exception) -> tuple[str, str]:
    """Return where in a value msgspec found something wrong, such as `.a[0]` or "", and what, without the value."""
    if isinstance(error, UnicodeDecodeError):
        return "", "a text is not valid UTF-8"
    if isinstance(error, RecursionError):
        return "", "it is nested too deep"
    found = re.search(r" - at `(?:key` in `)?\$([^`]*)`$", str(error))
    text = str(error)[: found.start()] if found else str(error)
    # msgspec quotes what it got for a Literal, an Enum or a tag, and an argument may be a secret.
    if re.match(r"Invalid (enum )?value ", text):
        text = "not one of the values its annotation allows"
    return found[1] if found else "", text
