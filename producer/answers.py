"""How long the server may take for one call of a producer, and the error when it does not answer, or refuses.

Owns the limit and the words. What is asked stands with whoever asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from common.errors import RedisUnavailable
from common.redis.connection import TROUBLE, ServerError
from common.redis.reasons import reason

__all__ = ["Answers"]

T = TypeVar("T")


class Answers:
    """The answers of one server.

    Args:
        where: the server in words fit for a message, without a password.
        within: seconds it has for each.

    Attributes:
        closed: whether the producer has closed its connection; calls under way then fail for no other reason.
    """

    __slots__ = ("closed", "where", "within")

    def __init__(self, where: str, within: float) -> None:
        self.where = where
        self.within = within
        self.closed = False

    async def of(self, call: Awaitable[T], asked: str, *, otherwise: str = "") -> T:
        """Return what a call to the server returns.

        Args:
            asked: what was asked of it, after "it was asked for" and "refused".
            otherwise: what is to be known when there is no answer in time.

        Raises:
            RedisUnavailable: there is no answer in time, or none can be had, or it is a refusal.
        """
        try:
            async with asyncio.timeout(self.within) as limit:
                return await call
        except TROUBLE as error:
            if self.closed:
                raise RedisUnavailable(f"this Producer was closed before {self.where} answered") from None
            if limit.expired():
                raise self.late(asked, otherwise) from None
            raise self.refused(asked, error) from None
        except Exception:
            if self.closed:  # a connection taken down under a call may fail in any way inside redis-py
                raise RedisUnavailable(f"this Producer was closed before {self.where} answered") from None
            raise

    def late(self, asked: str, otherwise: str = "") -> RedisUnavailable:
        """Return the error for an answer that did not come in time."""
        text = f"{self.where} gave no answer within {self.within:g} s when asked for {asked}"
        return RedisUnavailable(f"{text}; {otherwise}" if otherwise else text)

    def refused(self, asked: str, error: BaseException) -> RedisUnavailable:
        """Return the error for a call that failed; it holds the reason, so it needs no cause."""
        return RedisUnavailable(f"{self.where} cannot be asked for {asked}: {why(error)}")


def why(error: BaseException) -> str:
    """Return the reason for an error of the server's or the network's, in words.

    What a server refused is told by `reason`, which leaves out what a server may quote of the arguments.
    """
    if isinstance(error, ServerError):
        what, advice = reason(error)
        return f"{what}; {advice}" if what.startswith("the ACL user") else what
    return str(error) or type(error).__name__
