"""Wait for results, pushed over one subscription shared by all jobs of a producer.

Owns the subscription (over which watching.py is told of running jobs, too), who waits for which job, and the slow look
underneath for what no push announces (a stock arq worker makes no noise when it finishes). Deals in result bytes; what
they mean is job.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from common.deadlines import Deadlines
from common.errors import BarqueError, JobNotFound, RedisUnavailable, ResultTimeout
from common.group_commit import SEND, Begun, GroupCommit, Send
from common.redis import keys
from common.redis.connection import TROUBLE, ServerError, is_transient
from common.redis.push import Frame, frames, listen
from common.redis.reasons import may_pass
from common.redis.store import MOST_PER_CALL, Store
from producer.answers import Answers, why

__all__ = ["ResultListener"]

_AFTER_CALLER = 0.05
"""Seconds by which a caller's own limit ends before that of what it asked: it has the words for it."""

_EARLY_FOR = 1.0
"""Seconds for which a result that came before anybody waited is given without asking. The job may be replayed, or
another of its id enqueued, by anybody: later than that, the server is asked."""

_LOOK_EVERY = 1.0
_RECONNECT_AFTER = 0.2

_log = logging.getLogger(__name__)


class _Limit:
    """How long one caller waits; see `Deadlines`."""

    __slots__ = ("_future", "_job_id", "_seconds", "finished")

    def __init__(self, future: asyncio.Future[bytes], job_id: str, seconds: float) -> None:
        self._future: asyncio.Future[bytes] | None = future
        self._job_id = job_id
        self._seconds = seconds
        self.finished = False

    def end(self) -> None:
        """Be of no interest any more, and hold no result that its caller has."""
        self.finished, self._future = True, None

    def pass_by(self) -> None:
        """Tell the caller that there is no result in time."""
        if self._future is not None and not self._future.done():
            self._future.set_exception(_too_late(self._job_id, self._seconds))


class ResultListener:
    """Hands each waiter the result of its job, once, as soon as it is there.

    The race between asking and finishing is closed on the server: the script that registers a wait returns the
    result if it is there already. The race between subscribing and a push is closed here: nothing is registered
    before the server has confirmed the subscription, and after a lost connection all waits are registered anew.

    A wait outlives a server that is away for less than `answers.within` seconds, as it outlives a slow job; a server
    that is away for longer, or that refuses the subscription, ends all waits with `RedisUnavailable`.
    """

    def __init__(self, store: Store, listener_id: str, answers: Answers) -> None:
        self._store = store
        self.channel = keys.result_channel(listener_id)
        self._answers = answers
        self._waiting: dict[str, list[asyncio.Future[bytes]]] = {}
        self._limits: Deadlines[_Limit] = Deadlines(asyncio.get_running_loop(), _Limit.pass_by)
        self._subscribed = asyncio.Event()
        self._registering = GroupCommit(self._register, begin=self._begin_registering)
        self._listening: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._errands: set[asyncio.Task[None]] = set()
        self._silent_since: float | None = None
        self._pushed = False  # a result that was waited for came by a push: the next may be, too
        self._expected = ""  # id of the job whose result was asked for with its enqueue, until somebody waits for it
        self._early: tuple[bytes, float] | None = None  # that result, if it came before, and when by the loop's time
        self._told: Callable[[Frame], None] | None = None
        self._anew: Callable[[], None] | None = None

    def follow(self, told: Callable[[Frame], None], anew: Callable[[], None]) -> None:
        """Hand on what is pushed of running jobs, over the one subscription there is.

        Args:
            told: called with each frame.
            anew: called when the subscription is there again: what was pushed meanwhile went to nobody.
        """
        self._told, self._anew = told, anew

    async def subscribed(self) -> bool:
        """Wait until what is pushed reaches us; return whether it does: not where the server is away, or refuses."""
        self._start_listening()
        if not self._subscribed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._answers.within):
                    await self._subscribed.wait()
        return self._subscribed.is_set()

    def expect(self, job_id: str) -> str:
        """Return the channel to have the result of a job pushed to that is about to be enqueued; "" for none.

        It is asked for where the one before was waited for, and came by a push: a caller who goes on once it has the
        result is spared a round trip. If this one does not wait, its result is pushed in vain, and none is expected
        until one is waited for again.
        """
        if self._expected or not self._pushed or not self._subscribed.is_set():
            return ""
        self._expected, self._early = job_id, None
        return self.channel

    def expect_no_more(self) -> None:
        """Have the result asked for by who waits for it, as others are."""
        self._expected, self._early = "", None

    async def wait(self, job_id: str, within: float | None = None) -> bytes:
        """Return the result's bytes, when the job has ended.

        Args:
            within: seconds to wait; None waits as long as it takes.

        Raises:
            ResultTimeout: it has not ended by then.
            JobNotFound: there is no such job, or its result is no longer kept.
            RedisUnavailable: the server cannot be reached now, or refuses. The job is not affected.
        """
        expected = job_id == self._expected
        if expected:
            early = self._early
            self._expected, self._early = "", None
            if early is not None:
                content, came = early
                if asyncio.get_running_loop().time() - came <= _EARLY_FOR:
                    return content
                expected = False
        if self._listening is None or self._listening.done():
            self._start_listening()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_regularly())
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        until = None if within is None else loop.time() + within  # what is no number raises here, before anything waits
        self._waiting.setdefault(job_id, []).append(future)
        limit = None
        if within is not None and until is not None:
            limit = _Limit(future, job_id, within)
            self._limits.add(limit, until)
        try:
            if not expected:  # else it was asked for with the enqueue; the regular look asks again
                await self._ask(job_id, future, within)
            return await future
        finally:
            if limit is not None:
                limit.end()
            self._forget(job_id, future)

    async def aclose(self) -> None:
        """Stop listening; whoever still waits is cancelled."""
        tasks = [task for task in (self._listening, self._looking, *self._errands) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listening = self._looking = None
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()
        self._wake()
        self._limits.close()
        await self._registering.aclose(within=0)

    def _start_listening(self) -> None:
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())

    async def _ask(self, job_id: str, future: asyncio.Future[bytes], within: float | None) -> None:
        """Have the result pushed, once we are subscribed, unless the caller's own limit comes first."""
        asked = f"the result of job {job_id}"
        callers = within is not None and within < self._answers.within
        try:
            async with asyncio.timeout(within if callers else self._answers.within) as limit:
                if not self._subscribed.is_set():
                    await self._subscribed.wait()
                    if future.done():  # closed, refused or given up meanwhile
                        return
                await self._registering.submit(job_id)
        except TROUBLE as error:
            if future.done():  # pushed all the same, or too late
                return
            if limit.expired() and callers:
                raise _too_late(job_id, within or 0.0) from None
            if limit.expired():
                raise self._answers.late(asked, "the job is not affected") from None
            if not is_transient(error) or not may_pass(error):
                raise self._answers.refused(asked, error) from None
            # The server is away, or one connection was: the next look asks again, or gives the wait up in time.

    def _forget(self, job_id: str, future: asyncio.Future[bytes]) -> None:
        if future.done() and not future.cancelled():
            future.exception()  # looked at, where its caller had another
        futures = self._waiting[job_id]
        futures.remove(future)
        if not futures:
            del self._waiting[job_id]

    async def _register(self, job_ids: Sequence[str]) -> list[None]:
        """Ask for the results of up to MOST_PER_CALL jobs."""
        self._asked()
        async with asyncio.timeout(self._answers.within):
            answers = await self._store.await_results(self.channel, job_ids)
        self._silent_since = None
        for job_id, answer in zip(job_ids, answers, strict=True):
            self._registered(job_id, answer)
        return [None] * len(job_ids)

    def _begin_registering(self, job_id: str, told: Callable[[Exception | Send | None], None]) -> Begun | None:
        """Ask for the result of one job, while nobody waits for another; see `GroupCommit`."""

        def answered(answer: bytes | bool | Exception | None) -> None:  # noqa: FBT001 - the server's word
            if answer is None:
                told(SEND)
            elif isinstance(answer, Exception):
                told(answer)
            else:
                self._silent_since = None
                self._registered(job_id, answer)
                told(None)

        line = self._store.begin_await(self.channel, job_id, answered)
        if line is None:
            return None
        self._asked()

        def give_up() -> None:
            told(TimeoutError())
            line.drop()

        return Begun(asyncio.get_running_loop().time() + self._answers.within + _AFTER_CALLER, give_up)

    def _registered(self, job_id: str, answer: bytes | bool) -> None:  # noqa: FBT001 - the server's word
        if isinstance(answer, bytes):
            self._resolve(job_id, answer)
        elif not answer:
            self._fail(job_id, _not_there(job_id))

    def _resolve(self, job_id: str, result: bytes) -> None:
        for future in self._waiting.get(job_id, ()):
            if not future.done():
                future.set_result(result)

    def _fail(self, job_id: str, error: BarqueError) -> None:
        for future in self._waiting.get(job_id, ()):
            if not future.done():
                future.set_exception(error)

    def _fail_all(self, text: str) -> None:
        for job_id in self._waiting:
            self._fail(job_id, RedisUnavailable(text))
        self._wake()

    def _wake(self) -> None:
        """Let those go on that wait to be subscribed, without being subscribed."""
        if not self._subscribed.is_set():
            self._subscribed.set()
            self._subscribed.clear()

    def _asked(self) -> None:
        if self._silent_since is None:
            self._silent_since = asyncio.get_running_loop().time()

    def _unanswered(self, error: Exception) -> None:
        """Give up all waits when the server has been silent for too long. Before, waits go on as for a slow job."""
        if not isinstance(error, TROUBLE):
            # No fault of the server's: what it pushes still arrives, and the next look comes.
            self._silent_since = None
            _log.warning("waiting for results: %s", type(error).__name__, exc_info=error)
            return
        now = asyncio.get_running_loop().time()
        if self._silent_since is not None and now - self._silent_since >= self._answers.within:
            self._silent_since = None
            self._fail_all(
                f"{self._answers.where} has been away for {self._answers.within:g} s ({why(error)}) while results were "
                "waited for; the jobs are not affected"
            )

    async def _listen(self) -> None:
        while True:
            self._asked()
            try:
                async with asyncio.timeout(self._answers.within) as limit:
                    await self._receive(limit)
            except Exception as error:
                self._subscribed.clear()
                if isinstance(error, ServerError) and not is_transient(error):
                    # It would be refused again and again, and no waiter told. The next wait tries anew.
                    self._fail_all(
                        f"{self._answers.where} refuses the subscription over which results are pushed: {why(error)}. "
                        "Waiting for results needs the right to SUBSCRIBE to the channels &barque:* (ACL SETUSER)"
                    )
                    return
                self._unanswered(error)
            await asyncio.sleep(random.uniform(_RECONNECT_AFTER / 2, _RECONNECT_AFTER))  # noqa: S311

    async def _receive(self, limit: asyncio.Timeout) -> None:
        """Subscribe within the limit, then take what is pushed until the connection is lost."""

        def subscribed() -> None:
            limit.reschedule(None)
            self._silent_since = None
            self._subscribed.set()
            self.expect_no_more()  # it may have been pushed to nobody
            if self._waiting:
                # What ended while we were not subscribed was pushed to nobody.
                self._send_out(self._look())
            if self._anew is not None:
                self._anew()

        await listen(self._store.client, self.channel, self._take, subscribed=subscribed)

    def _take(self, message: bytes) -> None:
        self._silent_since = None
        large: list[str] = []
        for frame in frames(message):
            if not frame.ended:
                if self._told is not None:
                    self._told(frame)
            elif frame.content is None:
                large.append(frame.job_id)
                if frame.job_id == self._expected:
                    self.expect_no_more()
            elif frame.job_id == self._expected:
                self._early = frame.content, asyncio.get_running_loop().time()
            elif frame.job_id in self._waiting:
                self._pushed = True
                self._expected, self._early = "", None  # what was expected before nobody waited for
                self._resolve(frame.job_id, frame.content)
        if large:
            self._send_out(self._fetch(large))

    async def _fetch(self, job_ids: list[str]) -> None:
        try:
            async with asyncio.timeout(self._answers.within):
                stored = await self._store.results(job_ids)
        except Exception as error:
            self._unanswered(error)  # the next look finds them
            return
        for job_id, result in zip(job_ids, stored, strict=True):
            if result is not None:
                self._resolve(job_id, result)

    def _send_out(self, errand: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _look_regularly(self) -> None:
        while True:
            # Ten thousand waits are looked at within ten seconds, not within one.
            await asyncio.sleep(_LOOK_EVERY * max(1.0, len(self._waiting) / 1000))
            await self._look()

    async def _look(self) -> None:
        waiting = list(self._waiting)
        if not self._subscribed.is_set():
            return
        try:
            for start in range(0, len(waiting), MOST_PER_CALL):
                await self._register(waiting[start : start + MOST_PER_CALL])
        except Exception as error:
            self._unanswered(error)


def _too_late(job_id: str, seconds: float) -> ResultTimeout:
    return ResultTimeout(f"job {job_id} has no result after {seconds:g} s; it goes on", job_id=job_id)


def _not_there(job_id: str) -> JobNotFound:
    return JobNotFound(
        f"job {job_id} is not there: it was never enqueued here, or it ended and its result is not kept (keep_result)",
        job_id=job_id,
    )
