"""Dead letters: jobs that failed for good, to look at, to replay and to delete: one, or all that a filter fits.

Owns the filter as an address has it, and the confirmation: what many jobs are about to go through is said with their
number, which has to be typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from common.dead_letters import DeadLetter
from common.durations import read_seconds
from common.errors import ConfigurationError
from dashboard.pages.acting import Asked
from dashboard.pages.notices import Notice
from dashboard.pages.view import Page, View
from dashboard.pages.words import short_error
from dashboard.problems import ProblemRaised
from producer.dead import DeadPage
from producer.dead_filter import DeadFilters

__all__ = ["DEAD", "DEAD_CONFIRM", "act_on_dead", "delete_one", "replay_one"]

_ON_A_PAGE = 50

_FIELDS = ("task", "error", "queue", "newer", "older")

_VERBS: dict[str, str] = {"replay": "Replay", "delete": "Delete"}


class DeadRow(NamedTuple):
    """One letter, and its error in a line."""

    letter: DeadLetter
    error: str


async def _read(view: View) -> Mapping[str, Any]:
    chosen, complaint = _chosen(view.query)
    asked = _filters(chosen)
    masking = view.dashboard.masking

    page = DeadPage((), None)
    if not complaint:
        after = _after(view.query.get("after"))
        page = await view.ask(
            "dead letters", lambda producer: producer.dead.list(limit=_ON_A_PAGE, after=after, **asked)
        )
    rows = [DeadRow(each, short_error(each.error.type, masking.text(each.error.message))) for each in page.letters]
    return {
        "rows": rows,
        "next": page.next,
        "chosen": chosen,
        "complaint": complaint,
        "is_first": "after" not in view.query,
    }


DEAD = Page("dead.html", "dead", _read)


async def _confirm(view: View) -> Mapping[str, Any]:
    chosen, complaint = _chosen(view.query)
    asked = _filters(chosen)
    verb = view.path["verb"]
    if verb not in _VERBS:
        raise ProblemRaised(404, "there is no such page")
    number = 0
    if not complaint:
        number = await view.ask("the number of dead letters", lambda producer: producer.dead.count(**asked))
    return {"verb": verb, "words": _VERBS[verb], "number": number, "chosen": chosen, "complaint": complaint}


DEAD_CONFIRM = Page("dead_confirm.html", "dead", _confirm, is_live=False)


async def act_on_dead(asked: Asked) -> Notice:
    """Replay, or delete, all that a filter fits, once their number was typed."""
    verb: Literal["replay", "delete"] = "replay" if asked.view.path["verb"] == "replay" else "delete"
    chosen, complaint = _chosen(asked.view.query)
    if complaint:
        raise ConfigurationError(complaint)
    typed = asked.form.get("number", "").replace(",", "")
    if typed != asked.form.get("expected"):
        raise ConfigurationError(f"nothing was done: {typed or 'nothing'} was typed, not {asked.form.get('expected')}")
    dead, filters = asked.producer.dead, _filters(chosen)
    # Letters that have come since the page was read are not among those that were confirmed.
    most = int(typed) if typed.isdigit() else 0
    if most < 1:
        return Notice("There was nothing to do: no letter fits.", "plain", asked.view.link("/dead", chosen))
    if verb == "delete":
        number = await dead.delete(limit=most, **filters)
        return Notice(f"Deleted {_letters(number)}.", then=asked.view.link("/dead"))
    done = await dead.replay(limit=most, **filters)
    text = f"Replayed {_letters(done.replayed)}: the jobs are back in their queues."
    if done.taken:
        text += f" {len(done.taken):,} were left alone: a job of the same id is there."
    return Notice(text, then=asked.view.link("/dead"))


async def replay_one(asked: Asked) -> Notice:
    """Put one job back into its queue."""
    job_id = asked.view.path["job_id"]
    done = await asked.producer.dead.replay(job_id)
    if done.replayed:
        return Notice(f"Replayed job {job_id}: it is back in its queue, its attempts counted anew.")
    if done.taken:
        return Notice(f"Job {job_id} was not replayed: a job of its id is there.", "bad")
    return Notice(f"Job {job_id} was not replayed: no dead letter of it is kept any more.", "bad")


async def delete_one(asked: Asked) -> Notice:
    """Forget one letter."""
    job_id = asked.view.path["job_id"]
    if await asked.producer.dead.delete(job_id):
        return Notice(f"Deleted the dead letter of job {job_id}.")
    return Notice(f"No dead letter of job {job_id} was kept any more.", "plain")


def _chosen(query: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return the filter of an address, as it was typed, and what is wrong with it; then nothing is chosen by that."""
    chosen = {name: query[name] for name in _FIELDS if name in query}
    for name in ("newer", "older"):
        if name in chosen:
            try:
                read_seconds(chosen[name])
            except ValueError:
                return chosen, f"{name}={chosen[name]!r}: give a time such as 90s, 5m, 2h or 1d"
    return chosen, ""


def _filters(chosen: Mapping[str, str]) -> DeadFilters:
    found: DeadFilters = {}
    if "task" in chosen:
        found["task"] = chosen["task"]
    if "error" in chosen:
        found["error"] = chosen["error"]
    if "queue" in chosen:
        found["queue"] = chosen["queue"]
    try:
        if "older" in chosen:
            found["until"] = timedelta(seconds=read_seconds(chosen["older"]))
        if "newer" in chosen:
            found["since"] = timedelta(seconds=read_seconds(chosen["newer"]))
    except (ValueError, OverflowError):
        pass
    return found


def _after(given: str | None) -> str | None:
    """Return where to go on; an address that somebody cut short begins anew."""
    try:
        return None if given is None else repr(float(given))
    except ValueError:
        return None


def _letters(number: int) -> str:
    return "1 letter" if number == 1 else f"{number:,} letters"
