"""The Lua scripts: loading them, and calling them with EVALSHA.

One file a script in lua/, each under a header of its KEYS, ARGV, Returns and Invariant; prelude.lua stands in front of
all, and one of their own (`…_prelude.lua`) in front of some. Owns how a script is called; what its arguments mean is
store.py's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import redis
import redis.asyncio
from redis.exceptions import NoScriptError, ResponseError

from common.redis.wire import Argument, call, call_many

__all__ = [
    "AWAIT",
    "CLAIM",
    "COMPLETE",
    "ENQUEUE",
    "ENQUEUE_RANKED",
    "RENEW",
    "SCRIPTS",
    "Script",
    "ScriptCall",
    "call_scripts",
]


_LANES = ("lanes_prelude",)
_PUSH = ("push_prelude",)
_PRELUDES = {
    "enqueue_unique": ("lanes_prelude", "waits_prelude", "unique_prelude"),
    "enqueue_ranked": _LANES,
    "claim": _LANES,
    "complete": _PUSH,
    "report": _PUSH,
    "abort": (*_PUSH, *_LANES, "waits_prelude"),
    "reschedule": (*_LANES, "waits_prelude"),
    "stand_aside": ("waits_prelude",),
    "tick": ("unique_prelude",),
    "admit": ("gates_prelude",),
    "leave": ("gates_prelude",),
    "call_up": ("gates_prelude",),
}
"""What stands between prelude.lua and a script, for those that share more than all do."""


class Script:
    """One Lua script on the server, called by its digest.

    The server forgets scripts at a restart or a `SCRIPT FLUSH`; a call that finds it gone sends the
    source once and goes on. A script that ran is never sent again, so nothing runs twice.
    """

    __slots__ = ("name", "sha", "source")

    def __init__(self, name: str) -> None:
        folder = resources.files("common.redis") / "lua"
        self.name = name
        parts = ("prelude", *_PRELUDES.get(name, ()), name)
        self.source = "".join((folder / f"{part}.lua").read_text("utf-8") for part in parts)
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<Script {self.name}>"

    async def __call__(self, client: redis.asyncio.Redis, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run it and return its reply."""
        try:
            return await call(client, self.command(keys, arguments))
        except NoScriptError:
            return await call(client, ("EVAL", self.source, len(keys), *keys, *arguments))

    def command(self, keys: Sequence[str], arguments: Sequence[Argument]) -> tuple[Argument, ...]:
        """Return the call as a command, for a server that has the script."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def blocking(self, client: redis.Redis, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run it over a synchronous connection and return its reply."""
        run: Any = client.execute_command
        try:
            return run(*self.command(keys, arguments))
        except NoScriptError:
            return run("EVAL", self.source, len(keys), *keys, *arguments)


ScriptCall = tuple[Script, Sequence[str], Sequence[Argument]]
"""A script, its keys and its arguments."""


async def call_scripts(client: redis.asyncio.Redis, calls: Sequence[ScriptCall]) -> list[Any]:
    """Run scripts, all in one round trip; return the replies in order.

    A call that the server refused has its `ResponseError` in the place of its reply: the others ran all the same.

    Raises:
        redis.exceptions.ConnectionError and the like: it is not known which ran.
    """
    if len(calls) == 1:
        return [await _reply_or_error(client, *calls[0])]
    replies = await call_many(client, [script.command(keys, arguments) for script, keys, arguments in calls])
    for index, reply in enumerate(replies):
        if isinstance(reply, NoScriptError):
            replies[index] = await _reply_or_error(client, *calls[index])
    return replies


async def _reply_or_error(
    client: redis.asyncio.Redis, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
) -> Any:
    try:
        return await script(client, keys, arguments)
    except ResponseError as error:
        return error


ENQUEUE = Script("enqueue")
ENQUEUE_RANKED = Script("enqueue_ranked")
CLAIM = Script("claim")
COMPLETE = Script("complete")
RENEW = Script("renew")
AWAIT = Script("await")

SCRIPTS = (ENQUEUE, ENQUEUE_RANKED, CLAIM, COMPLETE, RENEW, AWAIT)
