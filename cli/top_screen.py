"""The screen of `barque top`: a terminal taken over and given back as it was, keys, and when to draw.

Owns the terminal. Whatever ends the command, a key, a signal or an error, the terminal is as it was before; also while
it is stopped by Ctrl-Z.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live

from cli.top_view import SECTIONS, SORTS, View, screen_of

if TYPE_CHECKING:
    from cli.top_view import Picture

__all__ = ["Screen", "has_screen"]

_MOST_KEYS = 64


def has_screen() -> bool:
    """Tell whether stdout is a terminal on which places can be written to."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}


class Screen:
    """Shows pictures until somebody has seen enough; `with` it takes the terminal."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._view = View()
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live: Live | None = None
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._changed = asyncio.Event()
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        if self._keys is not None:
            self._loop.add_reader(self._keys, self._pressed)
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._loop.add_signal_handler(number, self._end)
        self._loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        self._loop.add_signal_handler(signal.SIGTSTP, self._stop)
        self._take()
        self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGTSTP):
            self._loop.remove_signal_handler(number)
        if self._keys is not None:
            self._loop.remove_reader(self._keys)

    def show(self, picture: Picture) -> None:
        """Show this from now on."""
        self._view.trouble = None
        if not self._view.standing:
            self._picture = picture
        self._draw()

    def show_trouble(self, words: str) -> None:
        """Show why the picture is an old one."""
        self._view.trouble = words
        self._draw()

    async def shown_for(self, seconds: float) -> bool:
        """Wait for so long, with keys obeyed at once; return False once it is to end."""
        until = self._loop.time() + seconds
        while not self._ended and (left := until - self._loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
                self._changed.clear()
                self._draw()
        return not self._ended

    def _draw(self) -> None:
        if self._live is not None:
            width, height = self._console.size
            self._live.update(screen_of(self._picture, self._view, width, height), refresh=True)

    def _pressed(self) -> None:
        try:
            keys = os.read(self._keys if self._keys is not None else 0, _MOST_KEYS).decode(errors="replace")
        except OSError:
            keys = ""
        if not keys:  # the terminal is gone
            self._end()
        elif not keys.startswith("\x1b"):  # an arrow, say: nothing of ours
            for key in keys:
                self._obey(key)
        self._changed.set()

    def _obey(self, key: str) -> None:
        view = self._view
        if view.help and key != "q":
            view.help = False
        elif key in {"q", "Q"}:
            self._ended = True
        elif key == "s":
            view.sort = SORTS[(SORTS.index(view.sort) + 1) % len(SORTS)]
        elif key == "\t":
            order = (None, *SECTIONS)
            view.section = order[(order.index(view.section) + 1) % len(order)]
        elif key == "0":
            view.section = None
        elif key in "123456":
            view.section = SECTIONS[int(key) - 1]
        elif key == " ":
            view.standing = not view.standing
        elif key in {"?", "h"}:
            view.help = True

    def _end(self) -> None:
        self._ended = True
        self._changed.set()

    def _stop(self) -> None:
        """Stop as Ctrl-Z has it, the terminal given back meanwhile."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self._draw()

    def _take(self) -> None:
        if self._keys is not None:
            self._before = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._live.start()

    def _give_back(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        before, self._before = self._before, None
        if before is not None and self._keys is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, before)
