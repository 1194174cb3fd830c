"""What is sent in the very step of the event loop in which it is asked for, when it is alone.

A call that is awaited is a chain of coroutines down to the connection and back: a dozen frames, and three steps of the
event loop between a reply and who waits for it. In a process that was idle, whose caches are cold, that is a third of
an enqueue's time. Here a call is written at once, and its reply told as it arrives.

Owns these calls of the store, each beside the one that is awaited; batches, order and time limits are their callers'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import redis.asyncio
from redis.exceptions import NoScriptError

from common.redis import keys, scripts
from common.redis.layout import complete_arguments, id_bytes
from common.redis.line import Argument, Line
from common.redis.lines import Lines
from common.redis.reasons import ServerError
from common.redis.records import Enqueue, Finish, PutBack
from common.redis.wire import lines_of

__all__ = ["FETCH", "Beginnings", "EnqueueAnswer"]

FETCH = 2
"""await.lua's word for a result that is there, but too much for one reply."""

EnqueueAnswer = bool | ServerError


class Beginnings:
    """The part of `Store` that waits for nothing."""

    client: redis.asyncio.Redis

    @cached_property
    def _lines(self) -> Lines | None:
        return lines_of(self.client)

    def begin_enqueue(
        self,
        job: Enqueue,
        told: Callable[[EnqueueAnswer | Exception | None], None],
        push_to: str = "",
        not_pushed: Callable[[], None] | None = None,
    ) -> Line | None:
        """Add a job in this step of the event loop, if it asks for nothing and a line is free to take it.

        Args:
            told: called once, with what `enqueue` returns for the job, or raises; or with None: the server did not know
                the script, the job was not added, and `enqueue` will do it. It must not raise.
            push_to: channel to have the result pushed to, as `await_results` would; none by default.
            not_pushed: called, before `told`, where it will not be, though it was to be.

        Returns:
            the line it went over: to `drop` it gives the answer up. None says that nothing was sent.
        """
        lines = self._lines
        if lines is None or job.rank is not None or not job.fresh:
            return None
        own_id = id_bytes(job.job_id)
        commands: list[tuple[Argument, ...]] = [("EVALSHA", scripts.ENQUEUE.sha, 1, job.queue, 1, own_id, job.payload)]
        if push_to:
            commands.append(("HSET", keys.WAITERS, own_id, push_to))

        def answered(replies: Any) -> None:
            broken = isinstance(replies, Exception)
            first, last = (replies, replies) if broken else (replies[0], replies[-1])
            failed = isinstance(first, Exception)
            if push_to and (failed or isinstance(last, Exception)):
                if failed and not broken:  # nobody would take it off the list
                    lines.begin((("HDEL", keys.WAITERS, own_id),), _nobody)
                if not_pushed is not None:
                    not_pushed()
            if isinstance(first, NoScriptError):
                told(None)
            else:
                told(first if failed else True)

        return lines.begin(commands, answered)

    def begin_await(
        self, channel: str, job_id: str, told: Callable[[bytes | bool | Exception | None], None]
    ) -> Line | None:
        """Ask for one result in this step of the event loop, if a line is free to take it.

        Args:
            told: called once, with what `await_results` returns for the job, or raises; or with None, when that is to
                be asked. It must not raise.

        Returns:
            as `begin_enqueue`.
        """

        def answered(replies: Any) -> None:
            reply = replies if isinstance(replies, Exception) else replies[0]
            if isinstance(reply, NoScriptError):
                told(None)
            elif isinstance(reply, Exception):
                told(reply)
            else:
                (item,) = reply
                told(None if item == FETCH else item if isinstance(item, bytes) else bool(item))

        lines = self._lines
        command = scripts.AWAIT.command((), (channel, id_bytes(job_id)))
        return None if lines is None else lines.begin((command,), answered)

    def begin_complete(
        self, queues: Sequence[str], outcome: Finish | PutBack, told: Callable[[bool | Exception], None]
    ) -> Line | None:
        """Record one outcome in this step of the event loop, if a line is free to take it.

        Args:
            told: called once, with whether it was recorded, False saying that the lease was lost; or with the error
                that `complete` would raise. It must not raise.

        Returns:
            as `begin_enqueue`.
        """

        def answered(replies: Any) -> None:
            reply = replies if isinstance(replies, Exception) else replies[0]
            told(reply if isinstance(reply, Exception) else not reply[0])

        arguments, _ = complete_arguments((outcome,), again=False)
        lines = self._lines
        command = ("EVALSHA", scripts.COMPLETE.sha, len(queues), *queues, *arguments)
        return None if lines is None else lines.begin((command,), answered)


def _nobody(_: Any) -> None:
    """Take an answer that nobody waits for."""
