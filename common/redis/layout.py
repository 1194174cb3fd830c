"""How the scripts' arguments are laid out, and their replies read; each script's header says the same.

Pure. Who calls the scripts is store.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from common.redis.records import Claim, Claimed, Enqueue, Finish, Held, Order, PutBack, Renewal
from common.redis.scores import Past, read_score
from common.redis.wire import Argument

__all__ = [
    "MOST_PER_CALL",
    "bounds",
    "claim_arguments",
    "complete_arguments",
    "enqueue_arguments",
    "id_bytes",
    "parse_claim",
    "parse_renewal",
    "parts",
    "ranked_arguments",
    "renew_arguments",
    "sizes",
]

MOST_PER_CALL = 1000
"""Jobs in one script call: some milliseconds of the server's one thread, and far below Lua's unpack limit."""

_ONE_CLAIMED = 6 + 3
"""Parts of a claim's reply that has one job."""

_MOST_BYTES_PER_CALL = 8 * 1024 * 1024
"""Payloads or results in one script call: the server copies them while all others wait."""

# Ids are any bytes an arq producer cares to use; this way of decoding gives them back unchanged.
_ANY = "surrogateescape"


def enqueue_arguments(jobs: Sequence[Enqueue], part: list[int]) -> list[Argument]:
    """Return enqueue.lua's arguments for some of these jobs."""
    others = [index for index in part if not jobs[index].fresh]
    arguments: list[Argument] = [len(part) - len(others)]
    for index in part:
        job = jobs[index]
        if job.fresh:
            arguments += (id_bytes(job.job_id), job.payload)
    for index in others:
        job = jobs[index]
        arguments += (id_bytes(job.job_id), job.payload, job.delay_ms, job.at_ms, job.expires_ms)
    return arguments


def claim_arguments(
    queues: Sequence[str], most: int, lease_ms: int, worker: str, number: int, unanswered: int, order: Order
) -> tuple[Argument, ...]:
    """Return claim.lua's arguments."""
    arguments = (most, lease_ms, worker, number, unanswered)
    return arguments if len(queues) == 1 else (*arguments, order.aging_ms, *order.weights)


def ranked_arguments(jobs: Sequence[Enqueue], part: Sequence[int]) -> list[Argument]:
    """Return enqueue_ranked.lua's arguments for some of these jobs."""
    fresh = [jobs[index] for index in part if jobs[index].fresh]
    arguments: list[Argument] = [len(fresh)]
    for job in fresh:
        assert job.rank is not None
        arguments += (id_bytes(job.job_id), job.payload, *job.rank)
    for index in part:
        job = jobs[index]
        if not job.fresh:
            assert job.rank is not None
            arguments += (id_bytes(job.job_id), job.payload, job.delay_ms, job.at_ms, job.expires_ms, *job.rank)
    return arguments


def parse_claim(reply: list[Any], worker: str, number: int) -> Claim:
    """Read claim.lua's reply."""
    now, next_due, waiting, aborted, taken, later_attempts = reply[:6]
    first = f"{worker}:1:{number}"
    if len(reply) == _ONE_CLAIMED and not aborted and not later_attempts and reply[8].isdigit():
        # One plain job, as an idle worker is given them: where caches are cold, the loops below are part of its way.
        one = Claimed(reply[6].decode("utf-8", _ANY), reply[7], 1, int(reply[8]), 0.0, taken[0], first)
        return Claim(now, next_due if next_due >= 0 else None, waiting, [one])
    jobs, at = [], 6
    due, priority = 0, 0
    past: Past = ""
    for queue, count in zip(taken[::2], taken[1::2], strict=True):
        start, at = at, at + 3 * count
        its = iter(reply[start:at])
        for job_id, payload, score in zip(its, its, its, strict=True):
            if score is not None:  # else as of the one before
                try:
                    due, past, priority = int(score), "", 0
                except ValueError:  # it has a fraction; or it is whatever a foreign program wrote, -inf included
                    due, past, priority = read_score(score, job_id)
                due = max(due, 0)
            jobs.append(Claimed(job_id.decode("utf-8", _ANY), payload, 1, due, 0.0, queue, first, past, priority))
    for index, attempt in zip(later_attempts[::2], later_attempts[1::2], strict=True):
        jobs[index].attempt, jobs[index].token = attempt, f"{worker}:{attempt or 1}:{number}"
    for index, wish in zip(aborted[::2], aborted[1::2], strict=True):
        jobs[index].aborted = float(wish)
    return Claim(now, next_due if next_due >= 0 else None, waiting, jobs)


def complete_arguments(outcomes: Sequence[Finish | PutBack], *, again: bool) -> tuple[list[Argument], Sequence[int]]:
    """Return the script's arguments, and which outcome each one it counts is."""
    if len(outcomes) == 1:  # its way is spared the groups below, as that of one claimed job is spared the loops
        (one,) = outcomes
        if isinstance(one, Finish) and one.letter is None:
            held = one.lease
            alone = ("finish", held.queue, held.attempt, one.keep_ms, one.done_ms, 1)
            return [int(again), *alone, held.job_id.encode("utf-8", _ANY), held.token, one.result], (0,)
    groups: dict[tuple[str, int, int, int, int | str], tuple[list[int], list[Argument]]] = {}
    buried: list[int] = []
    before: Finish | None = None
    for index, outcome in enumerate(outcomes):
        lease = outcome.lease
        kind: tuple[str, int, int, int, int | str]
        if type(outcome) is Finish:
            if outcome.letter is not None:
                buried.append(index)
                continue
            if (  # most are of the kind of the one before, and so of its group
                before is None
                or lease.attempt != before.lease.attempt
                or lease.queue != before.lease.queue
                or outcome.keep_ms != before.keep_ms
                or outcome.done_ms != before.done_ms
            ):
                kind = ("finish", lease.queue, lease.attempt, outcome.keep_ms, outcome.done_ms)
                members, values = groups.setdefault(kind, ([], []))
                before = outcome
            members.append(index)
            values += (lease.job_id.encode("utf-8", _ANY), lease.token, outcome.result)
        else:
            assert isinstance(outcome, PutBack)
            before = None
            kind = (outcome.how, lease.queue, lease.attempt, outcome.priority, outcome.lane or 0)
            members, values = groups.setdefault(kind, ([], []))
            members.append(index)
            values += (lease.job_id.encode("utf-8", _ANY), lease.token, outcome.when, outcome.entry)
    arguments: list[Argument] = [int(again)]
    for kind, (members, values) in groups.items():
        arguments += (*kind, len(members))
        arguments += values
    order = [index for members, _ in groups.values() for index in members]
    if buried:
        order += _add_buried(outcomes, buried, arguments)
    return arguments, order


def _add_buried(outcomes: Sequence[Finish | PutBack], buried: list[int], arguments: list[Argument]) -> list[int]:
    """Add the outcomes that leave more than a result to the script's arguments; return which each one is."""
    groups: dict[tuple[int, ...], tuple[list[int], list[Argument]]] = {}
    for index in buried:
        outcome = outcomes[index]
        assert isinstance(outcome, Finish)
        assert outcome.letter is not None
        lease = outcome.lease
        payload, about, traceback, keep_ms, most, entry = outcome.letter
        head = (lease.queue, lease.attempt, outcome.keep_ms, outcome.done_ms, keep_ms, most)
        members, values = groups.setdefault(head, ([], []))
        members.append(index)
        values += (id_bytes(lease.job_id), lease.token, outcome.result, payload, about, traceback, entry)
    for (*common, keep_ms, most), (members, values) in groups.items():
        arguments += ("bury", *common, len(members), keep_ms, most)
        arguments += values
    return [index for members, _ in groups.values() for index in members]


def sizes(outcomes: Sequence[Finish | PutBack]) -> list[int]:
    """Return how many bytes of each outcome's own go over the wire, about."""
    return [
        (len(outcome.result) if outcome.letter is None else len(outcome.result) + outcome.letter.size)
        if isinstance(outcome, Finish)
        else len(outcome.entry)
        for outcome in outcomes
    ]


def renew_arguments(leases: Sequence[Held], lease_ms: int) -> list[Argument]:
    """Return renew.lua's arguments."""
    arguments: list[Argument] = [lease_ms]
    for lease in leases:
        arguments += (lease.queue, id_bytes(lease.job_id), lease.token)
    return arguments


def parse_renewal(reply: list[list[Any]], leases: Sequence[Held], into: Renewal) -> None:
    """Read renew.lua's reply."""
    into.lost.extend(leases[index] for index in reply[0])
    into.aborted.extend((leases[index], float(wish)) for index, wish in zip(reply[1][::2], reply[1][1::2], strict=True))


def parts(leases: Sequence[Held]) -> list[Sequence[Held]]:
    """Return the leases as parts that one script call takes."""
    return [leases[start : start + MOST_PER_CALL] for start in range(0, len(leases), MOST_PER_CALL)]


def bounds(sizes: Sequence[int], most: int = MOST_PER_CALL) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each part that one script call takes: so many at the most."""
    if len(sizes) <= most and sum(sizes) <= _MOST_BYTES_PER_CALL:  # as is almost always so
        if sizes:
            yield 0, len(sizes)
        return
    start = total = 0
    for index, size in enumerate(sizes):
        if index > start and (total + size > _MOST_BYTES_PER_CALL or index - start == most):
            yield start, index
            start, total = index, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)


def id_bytes(job_id: str) -> bytes:
    """Return a job's id, or a key with it, as it goes over the wire."""
    return job_id.encode(errors=_ANY)
