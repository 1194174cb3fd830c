"""Limits in Redis, as typed methods: asking whether attempts may begin, giving places back, and looking on.

Owns the layout of these scripts' arguments and the ids of gates; what they mean is in
common/redis/lua/gates_prelude.lua, what a task declares in common/limits.py. A gate is one limit for one key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import redis.asyncio

from common.limits import SPARE
from common.redis import keys
from common.redis.layout import id_bytes
from common.redis.records import Held
from common.redis.scores import Past
from common.redis.scripts import Script
from common.redis.wire import Argument

__all__ = [
    "SCRIPTS",
    "Admitted",
    "Answer",
    "Ask",
    "Event",
    "Gate",
    "Kind",
    "Leaver",
    "Left",
    "LimitInfo",
    "LimitStore",
    "gate",
    "is_of_key",
    "waited_for",
]

ADMIT = Script("admit")
LEAVE = Script("leave")

STAND_ASIDE = Script("stand_aside")

SCRIPTS = (ADMIT, LEAVE, STAND_ASIDE)

Kind = Literal["rate", "concurrency", "breaker", "door"]
Word = Literal["start", "held", "lost", "aborted"]
Left = Literal["", "ok", "bad", "hold", "reset"]

_NUMBERS = 6
_PLAIN = re.compile(r"[\w.:@<>/+-]{1,80}", re.ASCII)
_SHOWN_KEY = 200
_AT_ONCE = 200
_ANY = "surrogateescape"


class Gate(NamedTuple):
    """One limit for one key, as the scripts take it; `gate` makes one.

    Attributes:
        id: what its keys are called by.
        key: what tells its jobs apart, or None where all share it.
        keep_ms: how long its keys are kept while it is in use: longer than any job runs.
        numbers: rate: ms for each unit of cost, burst; concurrency: limit; breaker: trials, ms open, ms open at the
            most, threshold, minimum, ms of the window; door: none.
    """

    id: str
    kind: Kind
    name: str
    key: str | None
    keep_ms: int
    numbers: tuple[float, ...] = ()

    def arguments(self) -> tuple[Argument, ...]:
        """Return it as the scripts take it."""
        shown = id_bytes("" if self.key is None else self.key[:_SHOWN_KEY])
        padded = (*self.numbers, *(0,) * (_NUMBERS - len(self.numbers)))
        named = (id_bytes(self.id), self.kind, id_bytes(self.name), shown, self.keep_ms)
        return (*named, *(f"{number:.17g}" for number in padded))


def gate(kind: Kind, name: str, key: str | None, keep_ms: int, numbers: tuple[float, ...] = ()) -> Gate:
    """Return a gate. Its id is short whatever its name and key are: what is long or odd is digested, and every key."""
    plain = name if _PLAIN.fullmatch(name) else _digest(name)
    gate_id = f"{kind}:{plain}" if key is None else f"{kind}:{plain}#{_digest(key)}"
    return Gate(gate_id, kind, name, key, keep_ms, numbers)


def is_of_key(gate_id: str, key: str) -> bool:
    """Whether a gate is that of this key, whatever limit it is of, or has this id."""
    return gate_id == key or gate_id.rpartition("#")[2] == _digest(key)


def waited_for(mark: bytes | None) -> bytes | None:
    """Return the gate a job waits for, of what is kept of that: since when stands behind it, where that is known."""
    return None if mark is None else mark.partition(b" ")[0]


class Ask(NamedTuple):
    """One attempt that asks to begin.

    Attributes:
        attempt: its number, the payload's own word on it considered; 0 as in `Claimed`.
        gates: those it has to pass, each with what it costs there.
    """

    lease: Held
    attempt: int
    due_ms: int
    past: Past
    priority: int
    gates: tuple[tuple[Gate, float], ...]


class Answer(NamedTuple):
    """What became of it.

    Attributes:
        word: "start"; "held": it is back in its queue; "lost": its lease is not its own; "aborted": it is to end.
        wait_ms: from the script's run to its start.
        due_ms: since when it was due, which for one that was in a lane its score does not tell.
        gate: the one it waits for.
        since_ms: of one that may begin, and was held back: since when, as far as that is known; else 0.
        waited_for: the id of the gate that held it back last.
        asked_at: when it was asked, by the asker's own clock, if that took note.
    """

    word: Word
    wait_ms: float = 0.0
    due_ms: int = 0
    gate: Gate | None = None
    since_ms: int = 0
    waited_for: str = ""
    asked_at: float = 0.0


class Event(NamedTuple):
    """A change of a breaker's, told once, to whoever's call made it.

    Attributes:
        word: "opened", "half_open", "closed", "reset".
        numbers: of "opened": attempts counted, failures among them, ms it stays open.
    """

    gate: Gate
    word: str
    numbers: tuple[int, ...] = ()


class Admitted(NamedTuple):
    """What a batch brought."""

    answers: list[Answer]
    events: list[Event]


class Leaver(NamedTuple):
    """One attempt that leaves one gate, or a word by hand (`id` and `token` empty then)."""

    gate: Gate
    job_id: str
    token: str
    word: Left = ""
    ms: int = 0


@dataclass(frozen=True, slots=True)
class LimitInfo:
    """How one gate stands: one limit for one key.

    Attributes:
        key: the key's text, at most 200 characters; None where the whole task, or all that share the name, is one.
        limit: a rate's starts a second, as declared, a concurrency limit's places; None of others.
        in_use: places taken, trials under way included; None of a rate.
        waiting: jobs in the lane; None of a rate, whose jobs wait in the queue.
        next_free: a rate's next start that is not spoken for; when an open breaker lets a trial start. None if now.
        state: a breaker's "closed", "open" or "half_open"; a door's "shut"; else "".
    """

    gate: str
    name: str
    kind: str
    key: str | None
    limit: float | None
    in_use: int | None
    waiting: int | None
    next_free: datetime | None
    state: str


class LimitStore:
    """The gates of one server."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def admit(
        self,
        queues: Sequence[str],
        asks: Sequence[Ask],
        *,
        lease_ms: int,
        wait_ms: int,
        lead_ms: int,
        watched: bool = False,
    ) -> Admitted:
        """Let attempts begin as far as their gates allow; those that may not are back in their queues.

        Args:
            wait_ms: what an attempt that may begin waits by itself, at the most.
            lead_ms: how long before its time a job that has one is due again.
            watched: whether it is to be known for how long they were held back.
        """
        places: dict[Gate, int] = {}
        for ask in asks:
            for gate, _ in ask.gates:
                places.setdefault(gate, len(places))
        gates = list(places)
        arguments: list[Argument] = [lease_ms, wait_ms, lead_ms, len(gates), "1" if watched else ""]
        for gate in gates:
            arguments += gate.arguments()
        for ask in asks:
            lease = ask.lease
            arguments += (id_bytes(lease.job_id), lease.token, lease.queue, ask.attempt, ask.due_ms, ask.past)
            arguments += (ask.priority, len(ask.gates))
            for gate, cost in ask.gates:
                arguments += (places[gate], f"{cost:.17g}")
        found, events = await ADMIT(self.client, queues, arguments)
        return Admitted([_answer(reply, gates) for reply in found], _events(events, gates))

    async def leave(self, leavers: Sequence[Leaver], *, lease_ms: int) -> list[Event]:
        """Give places back, to those who wait for them; tell breakers how attempts ended."""
        places: dict[Gate, int] = {}
        for leaver in leavers:
            places.setdefault(leaver.gate, len(places))
        gates = list(places)
        arguments: list[Argument] = [lease_ms, len(gates)]
        for gate in gates:
            arguments += gate.arguments()
        for leaver in leavers:
            arguments += (places[leaver.gate], id_bytes(leaver.job_id), leaver.token, leaver.word, leaver.ms)
        return _events(await LEAVE(self.client, (), arguments), gates)

    async def stand_aside(self, queues: Sequence[str], leases: Sequence[Held]) -> int:
        """Have jobs wait for no limit any more whose attempts ended without asking; return how many did."""
        arguments: list[Argument] = []
        for lease in leases:
            arguments += (lease.queue, id_bytes(lease.job_id), lease.token)
        found: int = await STAND_ASIDE(self.client, queues, arguments)
        return found

    async def count(self) -> int:
        """Return how many gates are in use, or were within the last minute."""
        return int(await self.client.zcard(keys.LIMITS))

    async def standing(self, name: str | None = None, *, most: int | None = None) -> list[LimitInfo]:
        """Return how each gate in use stands, by name and key.

        Args:
            most: look at so many alone, those that are to be kept for longest first.
        """
        now = await self._now_ms()
        found = [_info(gate, shown, now) for gate, shown in await self._stored(name, now, most=most)]
        return sorted(found, key=lambda info: (info.name, info.kind, info.key or ""))

    async def reset(self, name: str, *, lease_ms: int = 10_000) -> list[LimitInfo]:
        """Have the gates of this name begin anew: rates without a past, breakers closed.

        Those that run keep their places. Returns how the gates stood before.
        """
        now = await self._now_ms()
        stored = await self._stored(name, now)
        leavers = [Leaver(gate, "", "", "reset") for gate, _ in stored]
        for start in range(0, len(leavers), _AT_ONCE):
            await self.leave(leavers[start : start + _AT_ONCE], lease_ms=lease_ms)
        return [_info(gate, shown, now) for gate, shown in stored]

    async def _now_ms(self) -> int:
        seconds, microseconds = await self.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def _stored(self, name: str | None, now_ms: int, *, most: int | None = None) -> list[tuple[Gate, _Shown]]:
        ids = await self.client.zrange(keys.LIMITS, 0, -1 if most is None else most - 1, desc=True)
        found: list[tuple[Gate, _Shown]] = []
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            pipeline = self.client.pipeline(transaction=False)
            for gate_id in part:
                pipeline.hgetall(keys.LIMIT.encode() + gate_id)
                pipeline.zcard(keys.LIMIT_HELD.encode() + gate_id)
                pipeline.zrange(keys.LIMIT_HELD.encode() + gate_id, "-inf", now_ms, byscore=True)  # type: ignore[arg-type]
                pipeline.zcard(keys.LIMIT_LANE.encode() + gate_id)
            replies = await pipeline.execute(raise_on_error=False)
            lost = await self._lost_places(replies[2::4])
            for index, gate_id in enumerate(part):
                fields, held, _, waiting = replies[4 * index : 4 * index + 4]
                gate = _gate(fields, gate_id) if isinstance(fields, dict) else None
                if gate is not None and (name is None or gate.name == name):
                    found.append((gate, _Shown(fields, _whole(held) - lost[index], _whole(waiting))))
        return found

    async def _lost_places(self, unsure: Sequence[object]) -> list[int]:
        """Return how many of these jobs, gate by gate, have no lease: their places come free when somebody asks."""
        pipeline = self.client.pipeline(transaction=False)
        held = [ids if isinstance(ids, list) else [] for ids in unsure]  # an error: a key of another type
        for ids in held:
            if ids:
                pipeline.exists(*(keys.LEASE.encode() + job_id for job_id in ids))
        there = iter(await pipeline.execute())
        return [len(ids) - next(there) if ids else 0 for ids in held]


class _Shown(NamedTuple):
    """What is stored of a gate besides what its declaration says."""

    fields: dict[bytes, bytes]
    held: int
    waiting: int


def _digest(text: str) -> str:
    return hashlib.sha1(id_bytes(text), usedforsecurity=False).hexdigest()[:20]


def _answer(reply: list[Any], gates: Sequence[Gate]) -> Answer:
    word: Word = reply[0].decode()
    if word == "start":
        held_back = (int(reply[3]), reply[4].decode(errors="replace")) if len(reply) > 4 else (0, "")
        return Answer(word, float(reply[1]), int(reply[2]), None, *held_back)
    return Answer(word, gate=gates[reply[1]] if len(reply) > 1 else None)


def _events(reply: list[list[Any]], gates: Sequence[Gate]) -> list[Event]:
    return [Event(gates[index], word.decode(), tuple(map(int, rest))) for index, word, *rest in reply]


def _gate(fields: dict[bytes, bytes], gate_id: bytes) -> Gate | None:
    """Return the gate that these fields are of; None if they are nobody's, or a foreign program's."""
    try:
        keep_ms, *numbers = map(float, fields[b"spec"].decode().split())
        kind: Any = fields[b"kind"].decode()
        key = fields[b"key"].decode(errors=_ANY)
        name = fields[b"name"].decode(errors=_ANY)
    except (KeyError, ValueError):
        return None
    return Gate(gate_id.decode(errors=_ANY), kind, name, key or None, round(keep_ms), tuple(numbers))


def _info(gate: Gate, shown: _Shown, now_ms: int) -> LimitInfo:
    def number(name: bytes) -> float:
        try:
            return float(shown.fields.get(name, 0))
        except ValueError:
            return 0.0

    limit: float | None = None
    free_ms, state = 0.0, ""
    if gate.kind == "rate":
        limit = 1000 / gate.numbers[0] * SPARE  # as it was declared
        free_ms = max(number(b"tat"), number(b"next"), number(b"floor"))
    elif gate.kind == "concurrency":
        limit = gate.numbers[0]
    elif gate.kind == "breaker":
        state = {"half": "half_open"}.get(word := shown.fields.get(b"state", b"closed").decode(), word)
        free_ms = number(b"till") if state == "open" else 0.0
    else:
        state = "shut"
    lanes = gate.kind != "rate"
    return LimitInfo(
        gate=gate.id,
        name=gate.name,
        kind=gate.kind,
        key=gate.key,
        limit=limit,
        in_use=shown.held if lanes else None,
        waiting=shown.waiting if lanes else None,
        next_free=datetime.fromtimestamp(free_ms / 1000, tz=UTC) if free_ms > now_ms else None,
        state=state,
    )


def _whole(reply: object) -> int:
    return reply if isinstance(reply, int) else 0
