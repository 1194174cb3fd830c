"""What may follow on the command line: names of tasks, queues, workers, schedules and limits, for a shell's Tab.

Owns where each kind of name comes from: the code, as far as it is there (task_names.py); the settings; and the server,
for as long as a finger waits. Commands name these functions in their options; Typer's script for the shell asks.

Whatever goes wrong, nothing is said, and nothing follows. A name from the server was written by somebody else, and what
zsh is told of it is evaluated twice: names with anything in them that a shell could take for its own are left out.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Coroutine, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from common.settings import Settings

__all__ = [
    "heed_colons",
    "limit_names",
    "one_of",
    "outcomes",
    "priorities",
    "queue_list",
    "queue_names",
    "schedule_names",
    "setting_names",
    "states",
    "task_names",
    "worker_names",
]

_ANSWER_WITHIN = 0.5
"""Seconds."""

_HARMLESS = re.compile(r"[A-Za-z0-9_][\w.:@/+%-]*", re.ASCII)
_MOST = 200

_STATES = ("running", "queued", "waiting", "scheduled", "dead", "succeeded", "failed", "cancelled", "ended")

_before_colon: list[str] = []
"""What bash takes for words before the one that is completed, and belongs to it."""


def heed_colons(environment: MutableMapping[str, str]) -> None:
    """Put words together again that bash has taken apart at their colons, as it does unless told not to.

    `arq:que` comes as `arq`, `:` and `que`, and of what is answered bash replaces the last alone.

    Args:
        environment: in which bash's completion says what was typed; it is changed.
    """
    if environment.get("_BARQUE_COMPLETE") != "complete_bash" or not environment.get("COMP_CWORD", "").isdecimal():
        return
    typed = environment.get("COMP_WORDS", "").split("\n")
    at = int(environment["COMP_CWORD"])
    whole: list[str] = []
    for index, word in enumerate(typed[: at + 1]):
        joins = index > 1 and whole[-1:] != [""] and (word.startswith(":") or typed[index - 1].endswith(":"))
        if joins and index == at:
            _before_colon.append(whole.pop() + word[: len(word) - len(word.lstrip(":"))])
            word = word.lstrip(":")  # noqa: PLW2901
            joins = False
        if joins:
            whole[-1] += word
        else:
            whole.append(word)
    environment["COMP_WORDS"], environment["COMP_CWORD"] = "\n".join(whole), str(len(whole) - 1)


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Return what completes an option that takes one of these words."""

    def following(incomplete: str) -> list[str]:
        return _fitting(words, incomplete)

    return following


outcomes = one_of(
    *("succeeded", "retried", "failed", "timed_out", "cancelled", "discarded", "snoozed", "released", "lost")
)
priorities = one_of("normal", "high", "urgent", "critical")


def setting_names(incomplete: str) -> list[str]:
    """Return names of settings, as they stand behind `BARQUE_`, in lower case."""

    def known() -> Iterable[str]:
        from common.settings import Settings  # noqa: PLC0415 - see the top of main.py

        return Settings.names()

    return _fitting(_quietly(known), incomplete)


def task_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return names of tasks: of the modules of `--tasks` or BARQUE_TASKS; if none fits, those that workers told of."""

    def declared() -> list[str]:
        from cli.options import add_current_folder  # noqa: PLC0415 - it names these functions
        from cli.task_names import declared_tasks  # noqa: PLC0415 - see the top of main.py

        add_current_folder()
        return declared_tasks(_settings(context).tasks)

    async def told(client: Any) -> Iterable[str]:
        from common.redis.fleet import FleetReader  # noqa: PLC0415 - see the top of main.py

        reports = (await FleetReader(client).snapshot()).workers
        running = [each.task for report in reports for each in report.longest]
        return running + [each.task for report in reports for each in report.failures]

    return _fitting(_quietly(declared), incomplete) or _fitting(_asked(context, told), incomplete)


def queue_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return queues: those of `--queues` or BARQUE_QUEUES, and those that workers serve."""

    async def in_use(client: Any) -> Iterable[str]:
        from common.redis.fleet import FleetReader  # noqa: PLC0415 - see the top of main.py

        return [queue for report in (await FleetReader(client).snapshot()).workers for queue in report.queues]

    return _fitting([*_quietly(lambda: _settings(context).queues), *_asked(context, in_use)], incomplete)


def queue_list(context: typer.Context, incomplete: str) -> list[str]:
    """Return what may follow in a list of queues with commas."""
    return _in_list(incomplete, lambda last: queue_names(context, last))


def states(incomplete: str) -> list[str]:
    """Return what may follow in a list of states of jobs with commas."""
    return _in_list(incomplete, lambda last: _fitting(_STATES, last))


def worker_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return ids of workers that live."""

    async def alive(client: Any) -> Iterable[str]:
        from common.redis.fleet import FleetReader  # noqa: PLC0415 - see the top of main.py

        return [report.worker for report in (await FleetReader(client).snapshot()).workers]

    return _fitting(_asked(context, alive), incomplete)


def schedule_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return names of schedules."""

    async def known(client: Any) -> Iterable[str]:
        from common.redis.schedules import ScheduleStore  # noqa: PLC0415 - see the top of main.py

        return (await ScheduleStore(client).load()).records

    return _fitting(_asked(context, known), incomplete)


def limit_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return names of limits that are in use."""

    async def in_use(client: Any) -> Iterable[str]:
        from common.redis.limits import LimitStore  # noqa: PLC0415 - see the top of main.py

        return [limit.name for limit in await LimitStore(client).standing(most=_MOST)]

    return _fitting(_asked(context, in_use), incomplete)


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    before = "".join(_before_colon)
    fitting = {name for name in names if name.startswith(before + incomplete) and _HARMLESS.fullmatch(name)}
    return [name.removeprefix(before) for name in sorted(fitting)[:_MOST]]


def _in_list(incomplete: str, following: Callable[[str], list[str]]) -> list[str]:
    done, comma, last = incomplete.rpartition(",")
    return [done + comma + name for name in following(last) if name not in done.split(",")]


def _settings(context: typer.Context) -> Settings:
    from cli.options import read_settings  # noqa: PLC0415 - it names these functions

    given = {name: context.params.get(name) for name in ("redis_url", "tasks", "queues")}
    return read_settings(**{name: value for name, value in given.items() if isinstance(value, str)})


def _quietly(look: Callable[[], Iterable[str]]) -> Iterable[str]:
    try:
        return look()
    except Exception:  # a setting that is wrong, say: the command itself says so
        return []


def _asked(context: typer.Context, question: Callable[[Any], Coroutine[Any, Any, Iterable[str]]]) -> list[str]:
    """Return what the server answers in time; in a thread, since a name that does not resolve holds up whoever asks."""
    import asyncio  # noqa: PLC0415 - see the top of main.py

    try:
        from common.redis.connection import connect  # noqa: PLC0415 - see the top of main.py

        settings = _settings(context)
    except Exception:
        return []
    found: list[str] = []

    async def ask() -> None:
        client = connect(settings, name="completion")
        try:
            found.extend(await question(client))
        finally:
            await client.aclose()

    def try_it() -> None:
        try:
            asyncio.run(ask())
        except Exception:  # no server, no rights: nothing follows
            return

    asking = threading.Thread(target=try_it, daemon=True)
    asking.start()
    asking.join(_ANSWER_WITHIN)
    return list(found)
