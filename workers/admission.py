"""Let attempts begin only as their limits allow, on the whole fleet; and give back what they held when they end.

Owns the asking: attempts that were claimed at about the same time share one call (group commit), as do those that end.
The server judges (common/redis/lua/admit.lua, leave.lua). An attempt that may begin in a moment waits that moment here,
under its lease; one that may not was put back by the server in the same step, and this worker has done with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal

import structlog

from common.errors import Discard, Retry, Snooze
from common.group_commit import GroupCommit
from common.jobs import OutcomeKind
from common.redis.connection import TROUBLE, ServerError, is_transient
from common.redis.limits import Answer, Ask, Event, Gate, Leaver, LimitStore
from common.redis.records import Held
from common.redis.scores import Past
from workers.attempt import Attempt, Outcome, PassedOnError, StopReason
from workers.backoff import Backoff
from workers.clock import ServerClock
from workers.gates import asked_delay
from workers.metrics import Metrics

__all__ = ["Admission", "Passage"]

log = structlog.get_logger("barque.admission")

_WAIT_MS = 100
"""An attempt that may begin within this time waits here, and keeps its slot; past it, it goes back to its queue."""

_LEAD_MS = 50
"""How long before its time a job is due: it is claimed together with others, and is there when its time has come."""

_LATE = 0.05
"""Seconds by which a start may be later than others before it has to ask again. Limits with a long `per` allow more."""

_ASKED_AGAIN = 5
"""How often a start that comes too late asks again: past that, this process is too busy for its clock to matter."""

_NOT_JUDGED_MS = 5000
"""After this time a job comes back whose limits the server could not look at."""

_LAST_REPLY = 1.0
"""Seconds that a cancelled attempt waits to hear what the server made of it."""

_MOST = 500

_MAY_HAVE_WAITED: frozenset[Past] = frozenset({"parked", "reserved", "displaced", "lost"})
"""How a job came to be due that a limit may have kept waiting; of one whose lease ran out the score tells no more."""

Word = Literal["", "ok", "bad"]


class Passage:
    """What an attempt passed, or is about to: kept with it until its outcome is recorded.

    Attributes:
        error: what its function raised, if it did.
    """

    __slots__ = ("error", "gates")

    def __init__(self, gates: tuple[tuple[Gate, float], ...]) -> None:
        self.gates = gates
        self.error: BaseException | None = None


class Admission:
    """Asks for one worker.

    Args:
        patience: seconds to wait for a reply; a server that hangs is then asked over a new connection.
        metrics: counts what was held back, and for how long, where somebody watches.
    """

    def __init__(
        self,
        store: LimitStore,
        queues: Sequence[str],
        *,
        lease_ms: int,
        patience: float,
        clock: ServerClock,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics
        self._store = store
        self._queues = queues
        self._lease_ms = lease_ms
        self._patience = patience
        self._clock = clock
        self._asking: GroupCommit[Ask, Answer] = GroupCommit(self._ask, most=_MOST)
        self._leaving: list[Leaver] = []
        self._aside: list[Held] = []
        self._leaver: asyncio.Task[None] | None = None
        self._round_trip = 0.0  # what is usual of late

    async def enter(self, attempt: Attempt) -> None:
        """Return when the attempt may begin.

        Raises:
            PassedOnError: it may not; its job is back in its queue.
            PayloadError: its arguments give no key for a limit.
        """
        runnable, payload = attempt.runnable, attempt.payload
        assert runnable is not None
        assert runnable.limits is not None
        assert payload is not None
        passage = attempt.passage = Passage(runnable.limits.of_job(payload))
        allowed = max(_LATE, runnable.limits.tolerance())
        past = attempt.past
        extras = payload.extras
        priority = runnable.priority if extras is None or extras.prio is None else extras.prio
        for _ in range(_ASKED_AGAIN):
            ask = Ask(attempt.lease, attempt.script_number, attempt.due_ms, past, priority, passage.gates)
            answer = await self._answer(attempt, ask)
            attempt.due_ms = answer.due_ms or attempt.due_ms
            if answer.wait_ms > 0:
                await asyncio.sleep(answer.wait_ms / 1000)
            late = time.perf_counter() - answer.asked_at - answer.wait_ms / 1000
            if late <= allowed + self._round_trip:
                break
            past = "displaced"  # others may start by now: it asks for another moment
        attempt.started = time.perf_counter()
        attempt.started_ms = self._clock.at(attempt.started)
        if self._metrics is not None and answer.since_ms:
            self._note_wait(self._metrics, answer, passage, attempt.started_ms)

    async def _answer(self, attempt: Attempt, ask: Ask) -> Answer:
        asking = asyncio.ensure_future(self._asking.submit(ask))
        asking.add_done_callback(_seen)
        try:
            answer = await asyncio.shield(asking)
        except asyncio.CancelledError:
            # The server may have put the job back: then it is not ours to release or to end.
            await asyncio.wait({asking}, timeout=_LAST_REPLY)
            if asking.done() and not asking.cancelled() and asking.exception() is None:
                self._judge(attempt, asking.result())
            raise
        except ServerError as error:
            raise self._not_judged(attempt, error) from None
        self._judge(attempt, answer)
        return answer

    def _not_judged(self, attempt: Attempt, error: ServerError) -> PassedOnError:
        log.error(
            "limits_not_judged",
            job_id=attempt.job_id,
            task=attempt.task_name,
            error=f"{type(error).__name__}: {error}",
            again_in_s=_NOT_JUDGED_MS / 1000,
        )
        return PassedOnError(str(self._clock.now_ms() + _NOT_JUDGED_MS))

    @staticmethod
    def _note_wait(metrics: Metrics, answer: Answer, passage: Passage, started_ms: int) -> None:
        for passed, _ in passage.gates:
            if passed.id == answer.waited_for:
                metrics.waited(passed.kind, passed.name, (started_ms - answer.since_ms) / 1000)

    def _judge(self, attempt: Attempt, answer: Answer) -> None:
        if answer.word == "held":
            if self._metrics is not None and answer.gate is not None:
                self._metrics.held_back(answer.gate.kind, answer.gate.name)
            raise PassedOnError
        if answer.word == "lost":
            attempt.stop = attempt.stop or StopReason.LOST
            raise asyncio.CancelledError
        if answer.word == "aborted":
            attempt.stop = attempt.stop or StopReason.ABORTED
            raise asyncio.CancelledError

    async def _ask(self, asks: list[Ask]) -> list[Answer | Exception]:
        """Ask until the server has answered; what it refuses for one attempt's sake is that attempt's alone."""
        backoff, again = Backoff(), False
        while True:
            asked_at = time.perf_counter()
            try:
                async with asyncio.timeout(self._patience):
                    answers, events = await self._store.admit(
                        self._queues,
                        asks,
                        lease_ms=self._lease_ms,
                        wait_ms=_WAIT_MS,
                        lead_ms=_LEAD_MS,
                        watched=self._metrics is not None,
                    )
            except TROUBLE as error:
                if not is_transient(error):
                    return await self._ask_apart(asks, error)
                delay = backoff.next()
                log.warning("limits_wait", error=f"{type(error).__name__}: {error}", jobs=len(asks), again_in_s=delay)
                await asyncio.sleep(delay)
                again = True
            else:
                taken = time.perf_counter() - asked_at
                self._round_trip += (min(taken, _LATE) - self._round_trip) / 8
                self._say(events)
                if again:  # those whose lease is gone were put back by the call whose reply did not come
                    answers = [Answer("held") if answer.word == "lost" else answer for answer in answers]
                return [answer._replace(asked_at=asked_at) for answer in answers]

    async def _ask_apart(self, asks: list[Ask], error: Exception) -> list[Answer | Exception]:
        if len(asks) == 1:
            return [error]
        middle = len(asks) // 2
        return [*await self._ask(asks[:middle]), *await self._ask(asks[middle:])]

    def ended(self, outcome: Outcome) -> None:
        """Give back what an attempt held, if it has limits; its outcome need not be recorded yet."""
        attempt = outcome.attempt
        limits = None if attempt.runnable is None else attempt.runnable.limits
        if attempt.past in _MAY_HAVE_WAITED and not hasattr(attempt, "passage"):
            # It never asked, and may be the one of a lane that was to: its deadline had passed, say.
            self._aside.append(attempt.lease)
        elif limits is None or not limits.leaves or outcome.kind is OutcomeKind.HELD_BACK:
            return
        elif hasattr(attempt, "passage"):
            self._leaving += self._leavers(outcome, attempt.passage)
        if (self._leaving or self._aside) and self._leaver is None:
            self._leaver = asyncio.create_task(self._send_leavers(), name="barque-limits")

    def _leavers(self, outcome: Outcome, passage: Passage) -> list[Leaver]:
        attempt = outcome.attempt
        limits = attempt.runnable.limits if attempt.runnable is not None else None
        assert limits is not None
        words = self._words(outcome, passage, limits.counts) if limits.breaks else {}
        asked = asked_delay(passage.error) if limits.holds else None
        found: list[Leaver] = []
        for gate, _ in passage.gates:
            if gate.kind != "rate":
                found.append(Leaver(gate, attempt.job_id, attempt.lease.token, words.get(gate.name, "")))
            elif asked is not None and limits.held_by(gate):
                found.append(Leaver(gate, attempt.job_id, attempt.lease.token, "hold", round(asked * 1000)))
        return found

    @staticmethod
    def _words(
        outcome: Outcome, passage: Passage, counts: Callable[[type[BaseException]], dict[str, bool]]
    ) -> dict[str, Word]:
        """Return what each breaker is told; nothing of an attempt that was aborted, released, or gave no verdict."""
        error = passage.error
        kind: type[BaseException]
        if outcome.kind is OutcomeKind.SUCCEEDED:
            return dict.fromkeys(counts(Exception), "ok")
        if outcome.kind is OutcomeKind.TIMED_OUT:
            kind = TimeoutError
        elif error is None:
            return {}
        elif isinstance(error, Retry | Snooze | Discard):
            if error.__cause__ is None:
                return {}
            kind = type(error.__cause__)
        else:
            kind = type(error)
        return {name: "bad" if counted else "ok" for name, counted in counts(kind).items()}

    async def _send_leavers(self) -> None:
        try:
            while self._leaving or self._aside:
                batch, self._leaving = self._leaving[:_MOST], self._leaving[_MOST:]
                aside, self._aside = self._aside[:_MOST], self._aside[_MOST:]
                refusal = await self._send(batch, aside)
                if refusal is not None:  # a key of a foreign type; the places come free with their leases
                    jobs = len(batch) + len(aside)
                    log.error("limits_not_left", error=f"{type(refusal).__name__}: {refusal}", jobs=jobs)
        finally:
            self._leaver = None

    async def _send(self, batch: list[Leaver], aside: list[Held]) -> Exception | None:
        """Send until the server has it; return why it does not take it."""
        backoff = Backoff()
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    if batch:
                        self._say(await self._store.leave(batch, lease_ms=self._lease_ms))
                        batch = []
                    if aside:
                        await self._store.stand_aside(self._queues, aside)
            except TROUBLE as error:
                if not is_transient(error):
                    return error
                await asyncio.sleep(backoff.next())
            else:
                return None

    def _say(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._metrics is not None:
                self._metrics.circuit(event.gate.name, event.word)
            _log(event)

    async def close(self, *, within: float) -> None:
        """Give back what is still to be given back; what is not by then comes free with its lease."""
        leaver = self._leaver
        if leaver is not None:
            await asyncio.wait({leaver}, timeout=within)
            leaver.cancel()
        await self._asking.aclose(within=0)


def _seen(asking: asyncio.Future[Answer]) -> None:
    """Take note of an error that nobody waits for any more: its attempt was cancelled meanwhile."""
    if not asking.cancelled():
        asking.exception()


def _log(event: Event) -> None:
    gate, word, numbers = event
    if word == "opened":
        calls, failures, open_ms = numbers
        log.error(
            "circuit_opened", limit=gate.name, gate=gate.id, calls=calls, failures=failures, seconds=open_ms / 1000
        )
    elif word == "half_open":
        log.warning("circuit_half_open", limit=gate.name, gate=gate.id)
    elif word == "closed":
        log.info("circuit_closed", limit=gate.name, gate=gate.id)
