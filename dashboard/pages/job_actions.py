"""What can be done to one job: abort it, have it come due at another time, enqueue it again with other arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from common.durations import read_seconds
from common.errors import ConfigurationError
from common.tasks import Call
from dashboard.pages.acting import Asked
from dashboard.pages.job import find
from dashboard.pages.notices import Notice
from dashboard.pages.view import Page, View
from dashboard.pages.words import indented
from dashboard.security.masking import MASK, Masking
from producer import Job
from producer.options import EnqueueArguments

__all__ = ["EDIT", "abort", "enqueue_edited", "reschedule"]

_ABORT_WAIT = 3.0
"""Seconds in which a job that runs may end, for the page that follows to show it."""


async def abort(asked: Asked) -> Notice:
    """End a job as cancelled."""
    job_id = asked.view.path["job_id"]
    job: Job[Any] = asked.producer.job(job_id, queue=asked.view.query.get("queue"))
    if await job.abort(wait=_ABORT_WAIT):
        return Notice(f"Job {job_id} is cancelled.")
    state = await job.status()
    if state.ended:
        return Notice(f"Job {job_id} had ended before it could be aborted.", "plain")
    return Notice(f"Job {job_id} was told to end; it has not yet.", "plain")


async def reschedule(asked: Asked) -> Notice:
    """Have a job that waits come due at another time."""
    job_id = asked.view.path["job_id"]
    delay = _delay(asked.form.get("delay", ""))
    due = await asked.producer.job(job_id, queue=asked.view.query.get("queue")).reschedule(delay=delay)
    return Notice(f"Job {job_id} is due at {due:%Y-%m-%d %H:%M:%S} UTC now." if delay else f"Job {job_id} is due now.")


async def _read(view: View) -> Mapping[str, Any]:
    job_id = view.path["job_id"]
    found = await find(view, job_id)
    masking = view.dashboard.masking
    given, named = found.arguments or ((), {})
    arguments, keywords = _shown(masking, found.task, given, named)
    return {
        "job_id": job_id,
        "found": found,
        "arguments": indented(arguments),
        "keywords": indented(keywords),
        "is_masked": MASK in indented([arguments, keywords]),
        "is_hidden": masking.shows_nothing,
    }


EDIT = Page("job_edit.html", "jobs", _read, is_live=False)


async def enqueue_edited(asked: Asked) -> Notice:
    """Enqueue a job like this one, with the arguments of the form."""
    found = await find(asked.view, asked.view.path["job_id"])
    if not found.task or found.arguments is None:
        raise ConfigurationError("nothing was enqueued: what this job was called with cannot be read here")
    masking = asked.view.dashboard.masking
    if masking.shows_nothing:
        raise ConfigurationError("nothing was enqueued: arguments are shown to nobody here, so nobody can edit them")
    given, named = list(found.arguments[0]), dict(found.arguments[1])
    shown = _shown(masking, found.task, given, named)
    arguments = _unmasked(_json("arguments", asked.form, list), shown[0], given, "arguments")
    keywords = _unmasked(_json("keyword_arguments", asked.form, dict), shown[1], named, "keyword arguments")
    call: Call[Any] = Call(found.task, *arguments, **keywords)
    when: EnqueueArguments = {"delay": _delay(text)} if (text := asked.form.get("delay")) else {}
    made = await asked.producer.reenqueue(asked.view.path["job_id"], call=call, in_queue=found.queue, **when)
    then = asked.view.link("/jobs/{job_id}", {"queue": made.job.queue}, job_id=made.job.job_id)
    return Notice("Enqueued as a new job: this one.", then=then)


def _shown(
    masking: Masking, task: str | None, given: Sequence[Any], named: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments as the form has them, as JSON gives them back."""
    arguments = masking.arguments(task, given, whole=True)
    keywords = masking.named(named, whole=True)
    return json.loads(indented(arguments)), json.loads(indented(keywords))


def _unmasked(edited: Any, shown: Any, original: Any, where: str) -> Any:
    """Return what was typed, with what was masked, and left as it was, as it is.

    Raises:
        ConfigurationError: a value that was masked was moved, or changed in part.
    """
    if edited == shown:
        return original
    if isinstance(edited, dict) and isinstance(original, Mapping):
        known = {str(key): value for key, value in original.items()}
        return {
            key: _unmasked(value, shown.get(key), known.get(key), f"{where}.{key}") for key, value in edited.items()
        }
    if isinstance(edited, list) and isinstance(shown, list) and len(edited) == len(shown) == len(original):
        pairs = zip(edited, shown, original, strict=True)
        return [_unmasked(*pair, f"{where}[{index}]") for index, pair in enumerate(pairs)]
    if MASK in json.dumps(edited):
        raise ConfigurationError(
            f"nothing was enqueued: {where} has {MASK} in it, which stands for what is not shown; give the value itself"
        )
    return edited


def _delay(text: str) -> float:
    try:
        return read_seconds(text) if text else 0.0
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _json(name: str, form: Mapping[str, str], kind: type[Any]) -> Any:
    what = name.replace("_", " ")
    try:
        value = json.loads(form.get(name) or ("[]" if kind is list else "{}"))
    except ValueError as error:
        raise ConfigurationError(f"nothing was enqueued: the {what} are no JSON: {error}") from None
    if not isinstance(value, kind):
        shape = "a list, [ … ]" if kind is list else "an object, { … }"
        raise ConfigurationError(f"nothing was enqueued: the {what} are to be {shape}")
    return value
