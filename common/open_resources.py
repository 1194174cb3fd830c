"""Open resources, hold them, and close them in reverse order: `ResourceKeeper`, one a worker.

Owns what is open and what each opening waits for. Each resource is opened, held and closed by one asyncio task of its
own, because what was entered in one task (a task group, a timeout, a scope of anyio's) must be left in the same one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import structlog

from common.errors import ConfigurationError, ResourceFailed
from common.resources import RESOURCES, Resource

__all__ = ["ResourceKeeper", "Resources", "keeper_of"]

log = structlog.get_logger("barque.resources")

T = TypeVar("T")

_NO_MORE = 0.1
"""Seconds a resource has to end once its closing was cancelled, and at the least to close where time is short."""


def keeper_of(state: dict[Any, Any]) -> ResourceKeeper:
    """Return the keeper of a worker's dict; of a dict that is no worker's, its own, made on first use."""
    found = state.get(RESOURCES)
    if found is None:
        found = state[RESOURCES] = ResourceKeeper(state)
    return cast("ResourceKeeper", found)


class Resources:
    """The worker's resources, as a lifespan function sees them that takes an argument.

    Attributes:
        state: the worker's own dict, what arq calls `ctx`.
    """

    def __init__(self, keeper: ResourceKeeper, opener: _Held) -> None:
        self._keeper = keeper
        self._opener = opener
        self.state = keeper.state

    async def open(self, resource: Resource[T]) -> T:
        """Return what another resource's function yielded, after opening it if it is not open yet.

        It is closed after the one that asks.

        Raises:
            ResourceFailed: it could not be opened.
            ConfigurationError: the two need each other, or this worker is closing.
        """
        return await self._keeper.opened(resource, self._opener)


class ResourceKeeper:
    """What is open in one worker.

    Args:
        state: the worker's own dict. What is open stands in it under its `Resource`; what stands there already, a
            fake in a test, is used as it is, and not closed.

        lost: called with the error when an open resource ends by itself.
    """

    def __init__(self, state: dict[Any, Any], lost: Callable[[ResourceFailed], None] | None = None) -> None:
        self.state = state
        self._lost = lost
        self._held: dict[Resource[Any], _Held] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # those that were given up, too: the loop holds tasks weakly
        self._numbers = itertools.count(1)
        self._closing = False

    @property
    def opening(self) -> bool:
        """Whether something is being opened."""
        return not all(held.number for held in self._held.values())

    async def open_all(self, resources: Iterable[Resource[Any]]) -> None:
        """Open, one after the other, all that are not lazy; raises as `opened`."""
        for resource in resources:
            if not isinstance(resource, Resource):
                raise ConfigurationError(f"lifespans: {resource!r} is no Resource; decorate it with @lifespan")
            if resource.lazy:
                continue
            try:
                await self.opened(resource)
            except ResourceFailed as error:
                name, place, cause = resource.name, resource.place, error.__cause__ or error
                log.error("resource_not_opened", resource=name, place=place, error=_told(cause), exc_info=cause)  # noqa: TRY400
                raise

    async def opened(self, resource: Resource[T], opener: _Held | None = None) -> T:
        """Return what a resource's function yielded, after opening it if it is not open yet.

        Args:
            opener: the resource whose opening needs it.

        Raises:
            ResourceFailed: it could not be opened. The next call tries again.
            ConfigurationError: resources that need each other, or this worker is closing.
        """
        with contextlib.suppress(KeyError):
            return cast("T", self.state[resource])
        if not isinstance(resource, Resource):
            raise ConfigurationError(f"open takes a Resource, got {type(resource).__name__}: use @lifespan")
        held = self._held.get(resource)
        if held is None:
            if self._closing:
                raise ConfigurationError(f"{resource!r} cannot be opened: this worker is closing")
            held = self._begin(resource)
        if opener is not None:
            self._check_circle(opener, held)
            opener.waits_for.append(held)
        try:
            return cast("T", await asyncio.shield(held.opened))
        except _NotOpenedError as failed:
            cause = failed.cause
        finally:
            if opener is not None:
                opener.waits_for.remove(held)
        if isinstance(cause, ResourceFailed | ConfigurationError):  # of one that this one needs: it says which
            raise cause
        raise ResourceFailed(f"{resource!r} could not be opened: {_told(cause)}") from cause

    async def close(self, within: float | None = None) -> None:
        """Close all that is open, the last one opened first; never raises.

        A closing that fails, or takes longer than it may, is logged, and the next one is closed.

        Args:
            within: seconds for all of them; None leaves each its own.
        """
        self._closing = True
        try:
            await self._close_all(None if within is None else time.monotonic() + within)
        finally:
            self._closing = False
            if self.state.get(RESOURCES) is self:
                del self.state[RESOURCES]

    async def _close_all(self, until: float | None) -> None:
        # By when they were open: what another needs came before it.
        held = sorted(self._held.values(), key=lambda held: held.number)
        self._held.clear()
        while held:
            last = held.pop()
            seconds = last.resource.closes_within
            if until is not None:
                seconds = min(seconds, max(_NO_MORE, until - time.monotonic() - _NO_MORE * (1 + 2 * len(held))))
            await self._close(last, seconds)

    async def _close(self, held: _Held, seconds: float) -> None:
        self.state.pop(held.resource, None)
        held.closing.set()
        if not held.opened.done():
            self._fail(held, ConfigurationError("this worker is closing"))
        task = held.task
        assert task is not None
        await asyncio.wait({task}, timeout=seconds)
        error: BaseException | None = None
        if not task.done():
            error = TimeoutError(f"it took longer than {seconds:g} s")
            task.cancel()
            await asyncio.wait({task}, timeout=_NO_MORE)
        elif not task.cancelled():
            error = task.exception()
        if error is not None:
            # Not its text, which may hold an address with a password; where it comes from is enough to find it.
            name, place = held.resource.name, held.resource.place
            log.warning("resource_not_closed", resource=name, place=place, error=type(error).__name__)

    def _begin(self, resource: Resource[Any]) -> _Held:
        loop = asyncio.get_running_loop()
        held = self._held[resource] = _Held(resource, loop)
        task = held.task = loop.create_task(self._hold(held), name=f"barque-resource-{resource.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._ended(held))
        too_slow = TimeoutError(f"it took longer than {resource.opens_within:g} s")
        timer = loop.call_later(resource.opens_within, self._fail, held, too_slow)
        held.opened.add_done_callback(lambda _: timer.cancel())
        return held

    async def _hold(self, held: _Held) -> None:
        try:
            async with held.resource.manager(Resources(self, held)) as value:
                if not held.opened.done():
                    self.state[held.resource] = value
                    held.number = next(self._numbers)
                    held.opened.set_result(value)
                    await held.closing.wait()
        except BaseException as error:
            if held.opened.done() and held.number:
                raise
            self._fail(held, error)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise

    def _fail(self, held: _Held, error: BaseException) -> None:
        """Tell all who wait for it why it is not open, and end its task; the next one to ask begins anew."""
        if held.opened.done():
            return
        self._forget(held)
        held.opened.set_exception(_NotOpenedError(error))
        if held.task is not None:
            held.task.cancel()

    def _forget(self, held: _Held) -> None:
        if self._held.get(held.resource) is held:
            del self._held[held.resource]

    def _ended(self, held: _Held) -> None:
        """Take note that a resource's task has ended: failed to open, was closed, or, unasked, is gone."""
        self._forget(held)
        task = held.task
        assert task is not None
        error = None if task.cancelled() else task.exception()  # looked at, so that asyncio does not complain of it
        if not held.number or held.closing.is_set():
            return
        self.state.pop(held.resource, None)
        if task.cancelled():  # with all else in its event loop
            return
        gone = ResourceFailed(f"{held.resource!r} ended while it was in use: {_told(error)}")
        log.error("resource_lost", resource=held.resource.name, place=held.resource.place, error=_told(error))
        if self._lost is not None:
            self._lost(gone)

    @staticmethod
    def _check_circle(opener: _Held, wanted: _Held) -> None:
        """Raise if what is wanted waits, itself or through others, for the one that wants it."""
        paths = [[wanted]]
        while paths:
            path = paths.pop()
            if path[-1] is opener:
                names = " -> ".join(held.resource.name for held in [opener, *path])
                raise ConfigurationError(f"resources need each other, and none can be opened first: {names}")
            paths += [[*path, needed] for needed in path[-1].waits_for]


class _NotOpenedError(Exception):
    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


class _Held:
    """One resource from its opening to its end.

    Attributes:
        opened: its value, or why there is none.
        number: of those that were opened, from 1; 0 while it is not.
        waits_for: what its opening needs and waits for now.
    """

    def __init__(self, resource: Resource[Any], loop: asyncio.AbstractEventLoop) -> None:
        self.resource = resource
        self.opened: asyncio.Future[Any] = loop.create_future()
        self.opened.add_done_callback(lambda opened: opened.exception())  # whoever asked may be gone
        self.closing = asyncio.Event()
        self.number = 0
        self.waits_for: list[_Held] = []
        self.task: asyncio.Task[None] | None = None


def _told(error: BaseException | None) -> str:
    if error is None:
        return "its function returned"
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
