"""The processes of one supervisor: which there are to be, and what is done when one comes, goes or does not well.

Owns the decisions, and the log lines that tell of them; reads no clock, starts no process and sends no signal but
through what it is given, so that a test runs a day of it in a moment. What arrives from outside calls a method; what
is due by time, `tick` does.

One place is for one process:

              configured, ready           told to leave
    starting ───────────────────► ready ─────────────────► leaving ──► ended
       ▲ │ ended                    │ ended                  │ outlives its grace period: SIGKILL
       │ ▼                          ▼
    backing off ◄───────────────────┘        0.5 s, 1 s, 2 s … 60 s; from the beginning after a good run

Where a process is replaced (it asked for it, or a reload), a successor starts beside it. Once that is ready it takes
the place, and the old one leaves. One at a time: there is never more than one process too many that starts, and the
next turn waits until the old process has ended.

Until one process has said that it is configured only the first place is started: what is wrong with settings or tasks
is said once, and not once for each.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator

import structlog

from workers.leaving import LEAVING
from workers.supervisor.children import Child, Place, Stage, Starter, delay, how_it_ended

__all__ = ["Fleet"]

log = structlog.get_logger("barque.supervisor")

_USAGE = 2
"""The exit code of a wrong setting or task: cli/exit_codes.py."""

_RAN_WELL = 30.0
"""Seconds after which a process that was ready counts as one that works."""

_READY_WITHIN = 300.0
"""Seconds a successor may take until it is ready: what it opens for its tasks may be large. The old one works on."""

_MARGIN = 4.0
"""Seconds past its own last resort (workers/backstop.py) after which a process that is to stop is ended by force."""

_AT_ONCE = 0.5
"""Seconds a process has to end by itself after a third signal."""

_AGAIN = 5.0
"""Seconds after which one that was killed and is still there is killed again."""

_RELOAD = "reload"


class Fleet:
    """The worker processes, as they are and as they are to be.

    Args:
        size: how many there are to be.
        grace: seconds that running jobs have to end, where a process has not said so itself.
        burst: each process ends by itself once there is nothing to do.
        waits_for_changes: one that does not start is started again when the code has changed.

    Attributes:
        places: one for each process.
        leaving: processes that are to end, by pid.
        deaths, kills: how many ended by themselves; and by force.
        stops: how many signals asked to stop.
    """

    def __init__(
        self,
        size: int,
        starter: Starter,
        *,
        grace: float,
        burst: bool = False,
        waits_for_changes: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places = [Place(number) for number in range(1, size + 1)]
        self.leaving: dict[int, Child] = {}
        self.deaths = self.kills = self.stops = 0
        self._starter = starter
        self._grace = grace
        self._burst = burst
        self._waits_for_changes = waits_for_changes
        self._clock = clock
        self._proven = False  # one has said that it is configured
        self._worked = False  # one has been ready
        self._failed: int | None = None
        self._signal = 0
        self._turns: deque[tuple[Place, str]] = deque()
        self._turn: Place | None = None
        self._predecessor: Child | None = None
        self._reload_since: float | None = None
        self._reload_again = False

    @property
    def stopping(self) -> bool:
        """Whether no more processes are started."""
        return self.stops > 0 or self._failed is not None

    @property
    def reloading(self) -> bool:
        """Whether processes are being replaced, one after the other, as somebody asked."""
        return self._reload_since is not None

    @property
    def all_ready(self) -> bool:
        """Whether each place has a process that has been ready."""
        return all(
            place.done or (place.current is not None and place.current.stage is Stage.READY) for place in self.places
        )

    @property
    def over(self) -> int | None:
        """The exit code, once all have ended; None before."""
        if any(True for _ in self._children()) or not (self.stopping or all(place.done for place in self.places)):
            return None
        if self._failed is not None:
            return self._failed
        return 128 + self._signal if self.stops > 2 else 0

    def start(self) -> None:
        """Start the first process; the others follow once it has said that it is configured."""
        now = self._clock()
        for place in self.places:
            place.start_at = now
        self.tick()

    def next_due(self) -> float | None:
        """Return when `tick` has something to do; None if nothing is waited for but events."""
        due = [child.kill_at for child in self._children() if child.kill_at is not None]
        due += [place.start_at for place in self._startable() if place.start_at is not None]
        return min(due, default=None)

    def tick(self) -> None:
        """Do what is due: start processes, end those by force that outlive their time."""
        now = self._clock()
        for child in list(self._children()):
            if child.kill_at is not None and child.kill_at <= now:
                self._kill(child, now)
        for place in self._startable():
            if place.start_at is not None and place.start_at <= now:
                place.start_at = None
                place.current = self._start(place)

    def configured(self, pid: int, grace: float) -> None:
        """Take note that a process has its settings and its tasks: the others may start."""
        child = self._find(pid)
        if child is None or child.stage is Stage.LEAVING:  # one of code that has changed since says nothing of this
            return
        child.grace = grace
        self._proven = True
        self.tick()

    def ready(self, pid: int) -> None:
        """Take note that a process takes jobs; it takes its place, and who stood there leaves."""
        child = self._find(pid)
        if child is None or child.stage is not Stage.STARTING:
            return
        now = self._clock()
        child.stage, child.ready, child.kill_at = Stage.READY, now, None
        self._worked = True
        log.info("worker_process_ready", process=child.place, pid=pid, seconds=round(now - child.started, 3))
        place = self.places[child.place - 1]
        if place.successor is child:
            old, place.current, place.successor = place.current, child, None
            if old is not None:
                self._predecessor = old
                self._leave(old, old.why)
                return
            self._end_turn()

    def replace(self, pid: int, why: str) -> None:
        """Have a process replaced, as it asked for, when it is its turn."""
        child = self._find(pid)
        if child is None or child.stage is not Stage.READY or self.stopping:
            return
        place = self.places[child.place - 1]
        if all(other is not place for other, _ in self._turns) and self._turn is not place:
            self._turns.append((place, why))
        self._next_turn()

    def hung(self, pid: int, why: str) -> None:
        """End a process by force that would not come back; another one is started."""
        child = self._find(pid)
        if child is None or child.stage is Stage.LEAVING:
            return
        log.error("worker_process_hung", process=child.place, pid=pid, why=why)
        self.kills += 1
        self._starter.send(pid, signal.SIGKILL)

    def ended(self, pid: int, code: int) -> None:
        """Take note that a process has ended, with an exit code as `subprocess` has them."""
        child = self.leaving.pop(pid, None)
        if child is not None:
            self._say_it_ended(child, code)
            if child is self._predecessor:
                self._end_turn()
            return
        child = self._find(pid)
        if child is None:
            return
        place = self.places[child.place - 1]
        if place.successor is child:
            place.successor = None
            if self._burst and code == 0:  # it found nothing to do; the old one ends as soon
                self._end_turn()
            else:
                self._successor_failed(place, child, how_it_ended(code))
        else:
            place.current = None
            self._current_ended(place, child, code)

    def reload(self, fault: str | None = None) -> None:
        """Replace all processes, one after the other.

        Args:
            fault: what is wrong with the settings that new processes would read: then none is replaced.
        """
        if self.stopping:
            return
        if self._burst:
            fault = "a burst ends by itself"
        if fault is not None:
            log.error("reload_stopped", error=fault, replaced=0, left=len(self.places))
            return
        if self.reloading:
            self._reload_again = True  # what is starting now may have read the code before it changed
            return
        now = self._clock()
        self._reload_since = now
        log.info("reload_started", processes=len(self.places))
        for place in self.places:
            if place.current is None:
                place.failures, place.start_at = 0, now  # whatever starts from here on has the new code
        self._turns = deque((place, _RELOAD) for place in self.places if place.current is not None)
        self.tick()
        self._next_turn()

    def changed(self, files: list[str]) -> None:
        """Have all processes leave and start others with the code as it is now, without waiting for one another."""
        if self.stopping:
            return
        log.info("code_changed", files=files)
        self._turns.clear()
        self._turn = self._predecessor = self._reload_since = None
        for child in list(self._children()):
            if child.stage is not Stage.LEAVING:
                self._leave(child, "the code has changed")
        self._proven = False
        now = self._clock()
        for place in self.places:
            place.current = place.successor = None
            place.failures, place.start_at, place.done = 0, now, False
        self.tick()

    def stop(self, signum: int) -> None:
        """Pass a signal to stop on: the first lets jobs end, the second gives them back, each more ends at once."""
        self.stops += 1
        self._signal = signum
        self._turns.clear()
        log.info("supervisor_stopping", signal=signal.Signals(signum).name, processes=len(list(self._children())))
        now = self._clock()
        for child in list(self._children()):
            # One that leaves already was told once; what is the first signal here would be its second.
            if child.told < self.stops:
                self._leave(child, "stop")
                if self.stops > 1:
                    child.kill_at = now + (LEAVING + _MARGIN if self.stops == 2 else _AT_ONCE)

    def _children(self) -> Iterator[Child]:
        yield from self.leaving.values()
        for place in self.places:
            if place.current is not None:
                yield place.current
            if place.successor is not None:
                yield place.successor

    def _find(self, pid: int) -> Child | None:
        return next((child for child in self._children() if child.pid == pid), None)

    def _startable(self) -> list[Place]:
        if self.stopping:
            return []
        places = self.places if self._proven else self.places[:1]
        return [place for place in places if place.current is None and place.successor is None and not place.done]

    def _start(self, place: Place, why: str = "") -> Child | None:
        now = self._clock()
        try:
            pid = self._starter.start(place.number)
        except OSError as error:
            self._back_off(place, f"could not be started: {error.strerror or error}", pid=None, ran=None)
            return None
        log.info("worker_process_started", process=place.number, pid=pid, **({"why": why} if why else {}))
        return Child(pid, place.number, now, grace=self._grace)

    def _leave(self, child: Child, why: str) -> None:
        for place in self.places:
            if place.current is child:
                place.current = None
            elif place.successor is child:
                place.successor = None
        child.stage, child.why = Stage.LEAVING, why
        child.told += 1
        child.kill_at = self._clock() + child.grace + LEAVING + _MARGIN
        self.leaving[child.pid] = child
        # Two of a kind that come together are one. SIGTERM first: SIGINT is a traceback in one that imports its tasks.
        self._starter.send(child.pid, signal.SIGTERM if child.told % 2 else signal.SIGINT)

    def _kill(self, child: Child, now: float) -> None:
        child.kill_at = now + _AGAIN
        self.kills += 1
        log.warning(
            "worker_process_killed",
            process=child.place,
            pid=child.pid,
            why="it did not stop" if child.stage is Stage.LEAVING else f"it was not ready within {_READY_WITHIN:g} s",
        )
        self._starter.send(child.pid, signal.SIGKILL)

    def _say_it_ended(self, child: Child, code: int) -> None:
        # One that is told so before it listens for signals ends by the signal itself.
        well = code == 0 or -code in {signal.SIGTERM, signal.SIGINT}
        say = log.info if well else log.warning
        say("worker_process_ended", process=child.place, pid=child.pid, how=how_it_ended(code), why=child.why)

    def _current_ended(self, place: Place, child: Child, code: int) -> None:
        if self._burst and code == 0:
            place.done = True
            child.why = "its burst is done"
            self._say_it_ended(child, code)
            return
        self.deaths += 1
        if place.successor is not None:
            log.warning("worker_process_died", process=place.number, pid=child.pid, how=how_it_ended(code))
            return
        if child.stage is Stage.STARTING and self._ends_all(code):
            self._fail(code)
            return
        ran = self._clock() - child.ready if child.stage is Stage.READY else None
        if ran is None and self._waits_for_changes:
            place.last = how_it_ended(code)
            log.warning("code_does_not_start", process=place.number, pid=child.pid, how=place.last)
            return
        self._back_off(place, how_it_ended(code), pid=child.pid, ran=ran)

    def _ends_all(self, code: int) -> bool:
        """Tell whether a process that did not become ready ends them all: the next one would do no better."""
        if self._waits_for_changes:
            return False
        return self._burst or (code == _USAGE and not self._worked)

    def _fail(self, code: int) -> None:
        self._failed = code if code > 0 else 1
        for child in list(self._children()):
            if child.stage is not Stage.LEAVING:
                self._leave(child, "another one could not start")

    def _back_off(self, place: Place, how: str, *, pid: int | None, ran: float | None) -> None:
        if ran is not None and ran >= _RAN_WELL:
            place.failures = 0
        place.failures += 1
        place.last = how
        seconds = delay(place.failures)
        place.start_at = self._clock() + seconds
        log.warning(
            "worker_process_died",
            process=place.number,
            pid=pid,
            how=how,
            ready_for_s=None if ran is None else round(ran, 3),
            failures=place.failures,
            again_in_s=round(seconds, 3),
        )

    def _next_turn(self) -> None:
        while self._turn is None and self._turns and not self.stopping:
            place, why = self._turns.popleft()
            if place.current is None:  # it has ended since, and what is started in its place is new
                continue
            place.current.why = why
            self._turn = place
            successor = self._start(place, why)
            if successor is None:
                self._successor_failed(place, None, place.last)
                continue
            successor.kill_at = self._clock() + _READY_WITHIN
            place.successor = successor
        if self._turn is None and not self._turns and self._reload_since is not None:
            self._reload_done(self._reload_since)

    def _end_turn(self) -> None:
        self._turn = self._predecessor = None
        self._next_turn()

    def _reload_done(self, since: float) -> None:
        again, self._reload_again, self._reload_since = self._reload_again, False, None
        if not self.stopping:
            log.info("reload_done", processes=len(self.places), seconds=round(self._clock() - since, 3))
            if again:
                self.reload()

    def _successor_failed(self, place: Place, child: Child | None, how: str) -> None:
        """Go on with the old process; a reload ends there, and what the process itself asked for it asks for again."""
        self._turn = None
        place.start_at = None
        old = place.current
        if old is None:  # it has ended meanwhile, and there is none in this place now
            self._back_off(place, how, pid=None if child is None else child.pid, ran=None)
        log.error(
            "worker_process_not_replaced", process=place.number, pid=None if child is None else child.pid, how=how
        )
        if self._reload_since is not None:
            left = 1 + sum(why == _RELOAD for _, why in self._turns)
            log.error("reload_stopped", error=how, replaced=len(self.places) - left, left=left)
            self._turns = deque((other, why) for other, why in self._turns if why != _RELOAD)
            self._reload_since, self._reload_again = None, False
        self._next_turn()
