"""Tenants that take turns: what a fair key is, and the lane it makes.

Owns how a tenant is told from a call's arguments, and the name the server knows it by. What lanes do is in
common/redis/lua/lanes_prelude.lua.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from common.errors import ConfigurationError

__all__ = ["FairArgument", "FairKey", "lane_of"]

FairKey = str | int | bytes | UUID
"""Who a tenant is: a name or a number. 17 and "17" are the same one."""


class FairArgument:
    """The argument of a task that says whose job it is.

    Args:
        name: of the argument.
        signature: of the task's function, the context its first parameter.

    Raises:
        ConfigurationError: the task has no argument of that name.
    """

    __slots__ = ("_default", "_index", "_name")

    def __init__(self, name: str, signature: inspect.Signature, task: str) -> None:
        parameters = dict(list(signature.parameters.items())[1:])
        kinds = inspect.Parameter
        found = parameters.get(name)
        if found is None or found.kind in {kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD}:
            raise ConfigurationError(
                f"@task(fair_key={name!r}): the task {task!r} has no argument of that name; it takes: "
                f"{', '.join(parameters) or 'none'}"
            )
        self._name = name
        self._default = None if found.default is kinds.empty else found.default
        self._index = len(parameters) if found.kind is kinds.KEYWORD_ONLY else list(parameters).index(name)

    def of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return what a call has there."""
        return args[self._index] if self._index < len(args) else kwargs.get(self._name, self._default)


def lane_of(value: Any) -> str:
    """Return the name under which the server knows a tenant: 24 hexadecimal digits; "" for None, who has no lane.

    Raises:
        ConfigurationError: it is neither a name nor a number.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, FairKey):
        raise ConfigurationError(f"a fair key is text, a whole number, bytes or a UUID, not a {type(value).__name__}")
    return _digest(value if isinstance(value, bytes) else str(value))


@functools.lru_cache(maxsize=4096)
def _digest(value: str | bytes) -> str:
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(raw, digest_size=12).hexdigest()
