"""The thread in which a `BlockingProducer` keeps its event loop, and what a fork does to it.

Owns the thread's start, its orderly end, and the parting of a forked child from its parent's sockets. Knows no Redis.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import selectors
import sys
import threading
import weakref
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from common.errors import ConfigurationError, RedisUnavailable

__all__ = ["BackgroundLoop", "keep_inherited"]

R = TypeVar("R")

_INHERITED: list[object] = []
"""What a forked child has of its parent's. Never dropped: what asyncio does when it goes is meant for its owner."""


class BackgroundLoop:
    """An event loop in a daemon thread; runs coroutines for any other thread.

    It always is asyncio's own selector loop, whatever the program's policy: its file descriptors are known, so that a
    forked child can be parted from them.
    """

    def __init__(self, name: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._lock = threading.Lock()
        self._closing = False
        self._ended = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        _running.add(self)
        try:
            self._thread.start()
        except BaseException:
            self._loop.close()
            raise

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine in the thread and wait for it. An interrupt (Ctrl-C) while waiting cancels it.

        Raises:
            RedisUnavailable: it is closed, or was closed meanwhile.
            ConfigurationError: called in the thread itself, which would wait for itself.
        """
        future = self._submit(coroutine)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RedisUnavailable("this BlockingProducer was closed while a call waited") from None
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Coroutine[Any, Any, None] | None = None) -> None:
        """Run one last coroutine, cancel what else still runs, and end the thread.

        Nothing is left waiting: a call that came before is answered or told that this was closed.
        """
        try:
            self._refuse_own_thread()
            with self._lock:
                first, self._closing = not self._closing, True
                if first:
                    asyncio.run_coroutine_threadsafe(self._wind_down(last), self._loop)
                    last = None
        finally:
            if last is not None:
                last.close()
        self._thread.join()
        if first and self._failure is not None:
            raise self._failure

    def detach(self) -> None:
        """Part this process, a forked child, from its parent's sockets.

        A child has its parent's epoll and sockets in common with it. What Python does with them when objects go, or
        when the child exits, would reach the parent: a socket taken off its epoll, a TLS connection ended.
        """
        if self._loop.is_closed():
            return
        with Path(os.devnull).open("r+b") as nothing:
            for key in self._selector.get_map().values():
                os.dup2(nothing.fileno(), key.fd, inheritable=False)
        if sys.platform == "linux" and isinstance(self._selector, selectors.EpollSelector):
            with selectors.EpollSelector() as empty:
                os.dup2(empty.fileno(), self._selector.fileno(), inheritable=False)

    def _submit(self, coroutine: Coroutine[Any, Any, R]) -> concurrent.futures.Future[R]:
        with contextlib.ExitStack() as refused:
            refused.callback(coroutine.close)
            self._refuse_own_thread()
            with self._lock:
                if not self._closing:
                    refused.pop_all()
                    return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        raise RedisUnavailable("this BlockingProducer was closed")

    def _refuse_own_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise ConfigurationError(
                "a BlockingProducer was used in its own background thread, where the items of map() are taken: it "
                "would wait for itself. Make the items beforehand, or use another BlockingProducer for them"
            )

    def _work(self) -> None:
        try:
            while not self._ended:
                # What a caller's own code raises, such as an item's sys.exit(), is told to that caller.
                with contextlib.suppress(SystemExit, KeyboardInterrupt):
                    self._loop.run_forever()
        finally:
            self._loop.close()

    async def _wind_down(self, last: Coroutine[Any, Any, None] | None) -> None:
        try:
            if last is not None:
                await last
        except BaseException as error:
            self._failure = error
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        self._ended = True
        self._loop.stop()


_running: weakref.WeakSet[BackgroundLoop] = weakref.WeakSet()


def keep_inherited(thing: object) -> None:
    """Keep what came from the parent for as long as this forked child lives."""
    _INHERITED.append(thing)


def _part_from_parent() -> None:
    for background in list(_running):
        keep_inherited(background)
        background.detach()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_part_from_parent)
