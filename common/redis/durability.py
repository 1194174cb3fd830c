"""Enqueues that the server has confirmed: written to its disk, and handed to its replicas.

Owns the questions WAITAOF and WAIT, and that they are asked over the connection that wrote: the server answers for
what this connection has written, so that over another one, or a new one, it would say yes to anything. How jobs are
added is store.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import redis.asyncio
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoPermissionError

from common.errors import ConfigurationError, NotConfirmed, RedisUnavailable
from common.redis import keys
from common.redis.reasons import TROUBLE, UNAVAILABLE, ServerError, reason
from common.redis.store import Enqueue, EnqueueAnswer, Store
from common.redis.wire import Argument, call

__all__ = ["Confirmation", "ConfirmedAnswer", "check_confirmation", "confirmed", "enqueue_confirmed"]

ConfirmedAnswer = bool | Exception
"""`EnqueueAnswer`, or `NotConfirmed`."""

Answer = TypeVar("Answer")

_RESERVE = 0.25
"""Seconds the server's "not yet" has to reach us, before our own limit would cut the connection off."""


class Confirmation(NamedTuple):
    """What a job must have reached before its enqueue returns.

    Attributes:
        disk: the server's append-only file, synchronised to disk.
        replicas: the memory of so many replicas.
    """

    disk: bool
    replicas: int

    @classmethod
    def of_all(cls, wanted: Sequence[Confirmation]) -> Confirmation:
        """Return what is at least as much as each of them."""
        return cls(any(one.disk for one in wanted), max(one.replicas for one in wanted))

    def __str__(self) -> str:
        wanted = ["on its disk"] if self.disk else []
        if self.replicas:
            wanted.append(f"on {self.replicas} replica{'' if self.replicas == 1 else 's'}")
        return " and ".join(wanted)


async def check_confirmation(client: redis.asyncio.Redis, where: str, wanted: Confirmation) -> None:
    """Return if this server can confirm what is wanted.

    Whether as many replicas are there is not asked: that may change at any time, and each enqueue finds out.

    Args:
        where: the server in words fit for a message, from `describe`.

    Raises:
        ConfigurationError: it cannot, as it is; the message says what to change.
        RedisUnavailable: it does not answer, or does not let this user ask.
    """
    asked: list[tuple[str, list[Argument]]] = []
    if wanted.disk:
        asked.append(("WAITAOF", ["WAITAOF", 1, 0, 1]))
    if wanted.replicas:
        asked.append(("WAIT", ["WAIT", 0, 1]))
    try:
        for command, arguments in asked:
            try:
                await call(client, arguments)
            except ServerError as error:
                raise _cannot_confirm(where, command, error) from None
        if wanted.disk and await _never_synchronised(client):
            raise ConfigurationError(
                f"BARQUE_DURABLE: Redis at {where} leaves it to its host when to write to disk (appendfsync no), and "
                "never says when it did: CONFIG SET appendfsync everysec (or always), and the same in its configuration"
            )
    except TROUBLE as error:
        why, advice = reason(error)
        raise RedisUnavailable(f"Redis at {where}: {why}; {advice}") from None


async def enqueue_confirmed(
    client: redis.asyncio.Redis, jobs: Sequence[Enqueue], wanted: Confirmation, *, where: str, until: float
) -> list[ConfirmedAnswer]:
    """Add jobs as `Store.enqueue` does, and return once what is wanted is confirmed.

    One confirmation serves all jobs of the call. A job that was there already (False) is confirmed too.

    Args:
        where: the server in words fit for a message.
        until: the event loop's time by which the server must have answered.

    Returns:
        As `Store.enqueue`; `NotConfirmed` in the place of each job that the server has, but did not confirm.

    Raises:
        redis.exceptions.ConnectionError and the like: it is not known which were added.
    """

    async def add(pinned: redis.asyncio.Redis) -> list[EnqueueAnswer]:
        return await Store(pinned).enqueue(jobs)

    return await confirmed(client, add, wanted, where=where, until=until)


async def confirmed(
    client: redis.asyncio.Redis,
    add: Callable[[redis.asyncio.Redis], Awaitable[Sequence[Answer | Exception]]],
    wanted: Confirmation,
    *,
    where: str,
    until: float,
) -> list[Answer | Exception]:
    """Add jobs over one connection, and return as `enqueue_confirmed` does.

    Args:
        add: adds them by the client that it is given. An answer other than True, which is no error, is of a job that
            may have been written by others before.
    """
    pool: Any = client.connection_pool
    connection = await pool.get_connection()
    try:
        pinned: Any = _Pinned(connection, pool.connection_class)
        answers = await add(pinned)
        if all(isinstance(answer, Exception) for answer in answers):
            return list(answers)
        anew = any(answer is not True and not isinstance(answer, Exception) for answer in answers)
        unconfirmed = await _confirm(pinned, wanted, where=where, until=until, anew=anew)
        if unconfirmed is None:
            return list(answers)
        return [answer if isinstance(answer, Exception) else NotConfirmed(unconfirmed) for answer in answers]
    finally:
        await pool.release(connection)


async def _confirm(pinned: Any, wanted: Confirmation, *, where: str, until: float, anew: bool) -> str | None:
    """Wait for the confirmation; return what there is to say of it when it does not come."""
    began = asyncio.get_running_loop().time()
    try:
        if anew:
            # The job that was there was written by another connection. The server answers for all that was written
            # before the last write of ours, so there must be one. It leaves nothing behind.
            await call(pinned, ("SET", keys.CONFIRMED, "", "PX", 1))
        if wanted.disk:
            on_disk, _ = await call(pinned, ("WAITAOF", 1, 0, _ms_left(began, until)))
            if not on_disk:
                return _unconfirmed(where, wanted, f"it did not say so within {until - began:.3g} s")
        if wanted.replicas:
            reached = await call(pinned, ("WAIT", wanted.replicas, _ms_left(began, until)))
            if reached < wanted.replicas:
                return _unconfirmed(where, wanted, f"{reached} confirmed it within {until - began:.3g} s")
    except ServerError as error:
        return _unconfirmed(where, wanted, _refusal(error))
    except UNAVAILABLE:
        return _unconfirmed(where, wanted, "the connection was lost before it said so")
    return None


def _unconfirmed(where: str, wanted: Confirmation, why: str) -> str:
    return (
        f"{where} took the job, but did not confirm that it is {wanted}: {why}. The job may be there and run, or be "
        "lost if the server fails now; enqueued again under the same job_id it is there once"
    )


def _ms_left(began: float, until: float) -> int:
    """Return the milliseconds the server may take; it takes 0 for no limit."""
    left = until - asyncio.get_running_loop().time() - min(_RESERVE, (until - began) / 4)
    return max(1, round(left * 1000))


def _refusal(error: ServerError) -> str:
    if "appendonly is disabled" in str(error):
        return "its append-only file has been switched off (`CONFIG SET appendonly yes` switches it on)"
    return reason(error)[0]


def _cannot_confirm(where: str, command: str, error: ServerError) -> ConfigurationError | RedisUnavailable:
    text = str(error)
    if "unknown command" in text.lower():
        return ConfigurationError(
            f"BARQUE_DURABLE: Redis at {where} cannot say what is on its disk (it has no {command}): use Valkey, or "
            "Redis 7.2 or newer. An older server that runs with `appendfsync always` has on disk whatever it has "
            "answered: with that, leave BARQUE_DURABLE off"
        )
    if "appendonly is disabled" in text:
        return ConfigurationError(
            f"BARQUE_DURABLE: Redis at {where} keeps no append-only file, so nothing is durable there: CONFIG SET "
            "appendonly yes, and `appendonly yes` in the server's configuration"
        )
    if isinstance(error, NoPermissionError):
        return RedisUnavailable(
            f"Redis at {where}: the ACL user may not run {command}, which durable enqueues need; "
            f"ACL SETUSER <user> +{command.lower()}"
        )
    why, advice = reason(error)
    if "replica instances" in text:
        why, advice = "the server is a read-only replica", "give the address of the primary, or of the sentinels"
    return RedisUnavailable(f"Redis at {where}: {why}; {advice}")


async def _never_synchronised(client: redis.asyncio.Redis) -> bool:
    try:
        return bool((await client.config_get("appendfsync")).get("appendfsync") == "no")
    except ServerError:  # a hosted server keeps CONFIG to itself; such ones do synchronise
        return False


class _Pinned:
    """As much of a client as wire.py asks of one, with one connection that is never opened anew."""

    connection = None

    def __init__(self, connection: Any, kind: type[Any]) -> None:
        self.connection_pool = _OneConnection(connection, kind)


class _OneConnection:
    """A pool of one connection; once that is lost there is none."""

    def __init__(self, connection: Any, kind: type[Any]) -> None:
        self.connection_class = kind
        self._connection = connection

    async def get_connection(self) -> Any:
        """Return the connection; nothing is awaited between this look and what is then sent."""
        if not self._connection.is_connected:
            raise ConnectionLost("the connection was lost")
        return self._connection

    async def release(self, connection: Any) -> None:
        """Do nothing: it goes back where it was taken from, after the last command."""
