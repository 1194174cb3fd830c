"""What is sent in the very step of the event loop in which it is asked for, when it is alone.

A call that is awaited is a chain of coroutines down to the connection and back: a dozen frames, and three steps of the
event loop between a reply and who waits for it. In a process that was idle, whose caches are cold, that is a third of
an enqueue's time. Here a call is written at once, and its reply told as it arrives.

Owns these calls of the store, each beside the one that is awaited; batches, order and time limits are their callers'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio
from redis.exceptions import NoScriptError

from common.redis import scripts
from common.redis.layout import complete_arguments, id_bytes
from common.redis.line import Line
from common.redis.reasons import ServerError
from common.redis.records import Enqueue, Finish, PutBack
from common.redis.wire import begin

__all__ = ["FETCH", "Beginnings", "EnqueueAnswer"]

FETCH = 2
"""await.lua's word for a result that is there, but too much for one reply."""

EnqueueAnswer = bool | ServerError


class Beginnings:
    """The part of `Store` that waits for nothing."""

    client: redis.asyncio.Redis

    def begin_enqueue(self, job: Enqueue, told: Callable[[EnqueueAnswer | Exception | None], None]) -> Line | None:
        """Add a job in this step of the event loop, if it asks for nothing and a line is free to take it.

        Args:
            told: called once, with what `enqueue` returns for the job, or raises; or with None: the server did not know
                the script, the job was not added, and `enqueue` will do it. It must not raise.

        Returns:
            the line it went over: to `drop` it gives the answer up. None says that nothing was sent.
        """
        if job.rank is not None or not job.fresh:
            return None

        def answered(reply: Any) -> None:
            if isinstance(reply, NoScriptError):
                told(None)
            else:
                told(reply if isinstance(reply, Exception) else True)

        return begin(
            self.client, scripts.ENQUEUE.command((job.queue,), (1, id_bytes(job.job_id), job.payload)), answered
        )

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

        def answered(reply: Any) -> None:
            if isinstance(reply, NoScriptError):
                told(None)
            elif isinstance(reply, Exception):
                told(reply)
            else:
                (item,) = reply
                told(None if item == FETCH else item if isinstance(item, bytes) else bool(item))

        return begin(self.client, scripts.AWAIT.command((), (channel, id_bytes(job_id))), answered)

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

        def answered(reply: Any) -> None:
            told(reply if isinstance(reply, Exception) else not reply[0])

        arguments, _ = complete_arguments((outcome,), again=False)
        return begin(self.client, scripts.COMPLETE.command(queues, arguments), answered)
