"""Asking the server on behalf of a command: one producer for one question, and the server's errors as ours.

Owns also the question to the person at the terminal, before something is done that cannot be undone.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import typer

from cli.exit_codes import USAGE
from cli.output import note

if TYPE_CHECKING:
    from common.settings import Settings
    from producer import Producer

__all__ = ["ask", "asking", "confirm"]

T = TypeVar("T")


def ask(settings: Settings, question: Callable[[Producer], Awaitable[T]]) -> T:
    """Return what is asked of a producer that is open for it alone."""
    from producer import Producer  # noqa: PLC0415 - see the top of main.py

    async def ask_it() -> T:
        with asking(settings):
            async with Producer(settings=settings) as producer:
                return await question(producer)

    return asyncio.run(ask_it())


@contextlib.contextmanager
def asking(settings: Settings) -> Iterator[None]:
    """Raise what Redis does in the block as one readable `RedisUnavailable`."""
    from common.errors import BarqueError, RedisUnavailable  # noqa: PLC0415 - see the top of main.py
    from common.redis.connection import TROUBLE, describe  # noqa: PLC0415
    from common.redis.reasons import reason  # noqa: PLC0415

    try:
        yield
    except BarqueError:
        raise  # ResultTimeout is a TimeoutError, and that an OSError
    except TROUBLE as error:
        why, advice = reason(error)
        raise RedisUnavailable(f"Redis at {describe(settings)}: {why}; {advice}") from error


def confirm(verb: str, count: Callable[[], int], question: Callable[[int], str]) -> None:
    """Ask whether to go on with so many; end the command if not. Where there are none, nothing is asked.

    Args:
        verb: what is to be done, in lower case.
        count: finds out how many there are; called once it is clear that there is somebody to ask.
        question: makes the question of their number, without its question mark.
    """
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"there is nobody to ask; {verb} without a question with --yes")
    found = count()
    if found and not typer.confirm(f"{question(found)}?", err=True):
        note("Nothing was done.")
        raise typer.Exit(USAGE)
