"""What `@lifespan` makes of a function that opens and closes something shared: a `Resource`.

Owns the declaration and the list of those that were declared. Opens nothing: that is open_resources.py's, which is
imported where something is opened, and not by producers.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from common.errors import ConfigurationError

if TYPE_CHECKING:
    from common.open_resources import Resources

__all__ = ["RESOURCES", "Resource", "lifespan", "registered_resources"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

RESOURCES = "barque:resources"
"""Where a worker's `Resources` stand in its dict (`ctx.state`), for what is opened on first use."""

_LONGEST = 3600.0


class Resource(Generic[T_co]):
    """Something that the tasks of one worker share, opened once and closed at the end: a client, a pool.

    In a task `ctx[resource]` is what its function yielded.

    Attributes:
        name: the function's, for logs and errors.
        place: where the function stands, as `file:line`, or the name of its module.
        lazy: opened by the first `await ctx.open(resource)`, not at the worker's start.
        opens_within, closes_within: seconds that opening and closing may take.
    """

    __slots__ = ("_function", "_takes_resources", "closes_within", "lazy", "name", "opens_within", "place")

    def __init__(
        self,
        function: Callable[..., AsyncIterator[T_co] | AbstractAsyncContextManager[T_co]],
        *,
        lazy: bool,
        opens_within: float,
        closes_within: float,
    ) -> None:
        self._function = function
        self.name = _name(function)
        self.place = _place(function)
        self.lazy = lazy
        self.opens_within = opens_within
        self.closes_within = closes_within
        self._takes_resources = _takes_resources(function, f"@lifespan on {self.name} ({self.place})")

    def __repr__(self) -> str:
        return f"<Resource {self.name} ({self.place})>"

    def manager(self, resources: Resources) -> AbstractAsyncContextManager[T_co]:
        """Return a context manager that opens it and closes it again, once.

        Raises:
            ConfigurationError: the function returned something else.
        """
        made = self._function(resources) if self._takes_resources else self._function()
        if isinstance(made, AsyncGenerator):
            return asynccontextmanager(lambda: made)()
        if isinstance(made, AbstractAsyncContextManager):
            return made
        raise ConfigurationError(f"{self!r}: its function returned a {type(made).__name__}; {_SHAPE}")


_SHAPE = "write `async def` with one `yield` in it, or return an asynchronous context manager"

_registry: dict[tuple[str, str], Resource[Any]] = {}


@overload
def lifespan(function: Callable[[], AsyncIterator[T]], /) -> Resource[T]: ...


@overload
def lifespan(function: Callable[[Resources], AsyncIterator[T]], /) -> Resource[T]: ...


@overload
def lifespan(function: Callable[[], AbstractAsyncContextManager[T]], /) -> Resource[T]: ...


@overload
def lifespan(function: Callable[[Resources], AbstractAsyncContextManager[T]], /) -> Resource[T]: ...


@overload
def lifespan(*, lazy: bool = False, opens_within: float = 60, closes_within: float = 5) -> _Lifespan: ...


def lifespan(
    function: Callable[..., Any] | None = None,
    /,
    *,
    lazy: bool = False,
    opens_within: float = 60,
    closes_within: float = 5,
) -> Any:
    """Make a `Resource` of a function that opens something, yields it, and closes it again.

        @lifespan
        async def http() -> AsyncIterator[ClientSession]:
            async with ClientSession() as session:
                yield session

    A worker opens it once at its start, and closes it when its last job has ended; a task has it as `ctx[http]`. A
    function that takes an argument receives the worker's `Resources`, to use others:
    `pool = await resources.open(database)`. One that returns an asynchronous context manager will do as well:
    `http = lifespan(ClientSession)`.

    Args:
        lazy: open it on its first use, `await ctx.open(http)`, and not at all in a worker that has none.
        opens_within: seconds that opening may take.
        closes_within: seconds that closing may take; it is then cancelled, and left.

    Raises:
        ConfigurationError: the function is of another shape, or an option makes no sense.
    """
    for option, given in (("opens_within", opens_within), ("closes_within", closes_within)):
        if not 0 < given <= _LONGEST:
            raise ConfigurationError(f"@lifespan({option}={given!r}): give seconds above zero, an hour at most")
    options = _Lifespan(lazy=lazy, opens_within=opens_within, closes_within=closes_within)
    return options if function is None else options(function)


class _Lifespan:
    """`@lifespan(…)` with its options, waiting for the function."""

    def __init__(self, *, lazy: bool, opens_within: float, closes_within: float) -> None:
        self._lazy = lazy
        self._opens_within = opens_within
        self._closes_within = closes_within

    @overload
    def __call__(self, function: Callable[[], AsyncIterator[T]], /) -> Resource[T]: ...

    @overload
    def __call__(self, function: Callable[[Resources], AsyncIterator[T]], /) -> Resource[T]: ...

    @overload
    def __call__(self, function: Callable[[], AbstractAsyncContextManager[T]], /) -> Resource[T]: ...

    @overload
    def __call__(self, function: Callable[[Resources], AbstractAsyncContextManager[T]], /) -> Resource[T]: ...

    def __call__(self, function: Callable[..., Any], /) -> Resource[Any]:
        made: Resource[Any] = Resource(
            function, lazy=self._lazy, opens_within=self._opens_within, closes_within=self._closes_within
        )
        # A module that is imported again (a reload, under another name) declares the same ones, not more of them.
        _registry[made.place, made.name] = made
        return made


def registered_resources() -> tuple[Resource[Any], ...]:
    """Return every resource declared in this process, in that order."""
    return tuple(_registry.values())


def _name(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]


def _place(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    return str(getattr(function, "__module__", None) or type(function).__module__)


def _takes_resources(function: Any, where: str) -> bool:
    """Whether the function wants to be given the worker's other resources."""
    if not callable(function) or inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigurationError(f"{where}: {_SHAPE}")
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a class written in C, say, whose signature Python cannot tell
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
    if len(needed) > 1 or any(p.kind is p.KEYWORD_ONLY for p in needed):
        raise ConfigurationError(
            f"{where}: it is called with nothing, or with the worker's Resources alone; it wants "
            f"{', '.join(p.name for p in needed)}"
        )
    return bool(needed)
