"""Who needs which rights on the server: the ACL users of a worker, a producer, a dashboard and a reader, in one table.

Owns the table beside keys.py: keys, channels and commands a role needs and no more. Of its scripts it lists the names;
what they call is read from their source, so that a script that changes takes its rights along. Asks no server.

A key pattern holds for reading and writing alike: rights on one alone (`%R~`) are not known to servers before Redis 7.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from common.redis import keys
from common.redis.scripts import Script

__all__ = ["DASHBOARD", "PRODUCER", "READER", "ROLES", "WORKER", "Role"]

_CALL = re.compile(r"\bp?call\(\s*'(\w+)'")

# What opens a connection and asks for confirmation, on old servers and new; not what lists or kills other clients,
# nor what tells of every key's changes. Servers before Redis 7 do not know that last rule, and do not need it.
_CONNECTING = ("+@connection", "-@dangerous", "+client|setname", "+select", "+wait", "-client|tracking")


@dataclass(frozen=True, slots=True)
class Role:
    """What one kind of client needs.

    Attributes:
        user: the ACL user's name.
        purpose: what it is for, in a few words.
        own_keys: keys, or prefixes that end in `*`, whatever the queues.
        queue_keys: prefixes and suffixes around each queue's name.
        commands: called directly, by us, by arq's client and by redis-py.
        scripts: names of the Lua scripts it runs; None runs them all.
        channels: patterns of what it publishes or subscribes to.
    """

    user: str
    purpose: str
    own_keys: tuple[str, ...]
    queue_keys: tuple[tuple[str, str], ...]
    commands: frozenset[str]
    scripts: frozenset[str] | None = frozenset()
    channels: tuple[str, ...] = ()

    def rules(self, queues: Sequence[str]) -> list[str]:
        """Return the ACL rules for these queues, in the order `ACL SETUSER` takes them; no password among them."""
        patterns = [f"~{key}" for key in self.own_keys]
        for queue in dict.fromkeys(queues):
            patterns += [f"~{before}{_literally(queue)}{after}" for before, after in self.queue_keys]
        channels = [f"&{channel}" for channel in self.channels]
        commands = [f"+{name}" for name in sorted(self.commands | self._called())]
        return ["reset", "on", *patterns, "resetchannels", *channels, *_CONNECTING, *commands]

    def command(self, queues: Sequence[str]) -> str:
        """Return the line that makes the user, for `redis-cli`; as it has no password yet, nobody can log in."""
        return " ".join(["ACL SETUSER", self.user, *self.rules(queues)])

    def _called(self) -> set[str]:
        names = [name for name in _all_scripts() if self.scripts is None or name in self.scripts]
        called = {name.lower() for script in names for name in _CALL.findall(Script(script).source)}
        return called | {"eval", "evalsha"} if names else called


def _all_scripts() -> list[str]:
    files = (resources.files("common.redis") / "lua").iterdir()
    return sorted(name for file in files if not (name := file.name.removesuffix(".lua")).endswith("prelude"))


def _literally(queue: str) -> str:
    """Return a queue's name as a pattern that means it alone; what no rule can hold is any one character."""
    escaped = re.sub(r"([*?\[\]\\])", r"\\\1", queue)
    return re.sub(r"[\s\"'\x00-\x1f\x7f]", "?", escaped)


_JOBS = (f"{keys.JOB}*", f"{keys.LEASE}*", f"{keys.RETRY}*", f"{keys.RESULT}*", keys.ABORT)
_RESULTS = keys.result_channel("*")
_LOOKING_ON = (f"{keys.OBSERVE_CHANNEL}*", f"{keys.ATTEMPTS_CHANNEL}*")
_READING = frozenset(
    {"exists", "get", "mget", "hget", "hgetall", "hlen", "hmget", "time", "zcard", "zcount", "zrange", "zscore"}
    # Lists of jobs; not SCAN, which shows the names of all keys: that is the dashboard's alone.
    | {"hexists", "hscan", "hstrlen", "pttl", "strlen", "zmscore", "zrevrange"}
    | {"lrange", "multi", "exec"}
)

_LANES = ((keys.LANES, ""), (keys.FAIR, ""), (keys.LANED, ""), (keys.LANE, ":*"))

PRODUCER = Role(
    "barque-producer",
    "enqueues jobs, follows, aborts and reschedules them, waits for results, keeps schedules and limits, replays",
    own_keys=(
        *_JOBS,
        keys.WAITERS,
        f"{keys.AWAITED}*",
        f"{keys.PROGRESS}*",
        f"{keys.ATTEMPTS}*",
        f"{keys.STREAM}*",
        f"{keys.WATCHERS}*",
        keys.WORKERS,
        f"{keys.WORKER}*",
        keys.LIMITS,
        *(f"{prefix}*" for prefix in (keys.LIMIT, keys.LIMIT_HELD, keys.LIMIT_LANE, keys.LIMIT_WAIT)),
        keys.CONFIRMED,
        f"{keys.SCHEDULES}*",
        keys.DEAD,
        keys.DEAD_ABOUT,
        f"{keys.DEAD_LETTER}*",
        keys.PAUSED,
        keys.UNIQUES,
        f"{keys.UNIQUE}*",
    ),
    queue_keys=(("", ""), ("", keys.HEALTH_SUFFIX), (keys.WAKE, ""), (keys.LIFT, ""), *_LANES),
    commands=_READING | {"set", "publish", "subscribe", "unsubscribe", "xrange", "zscan"},
    scripts=frozenset(
        {
            *("enqueue", "enqueue_ranked", "await", "abort", "reschedule"),
            *("pause", "resume", "call_up"),
            *("add_schedule", "remove_schedule", "pause_schedule"),
            *("replay_dead", "delete_dead", "leave", "watch", "enqueue_unique", "page", "contents"),
        }
    ),
    channels=(_RESULTS, keys.CONTROL_CHANNEL, *_LOOKING_ON),
)

DASHBOARD = dataclasses.replace(
    PRODUCER,
    user="barque-dashboard",
    purpose="all a producer does, and lists jobs that have ended: for that it sees the names of all keys on the server",
    commands=PRODUCER.commands | {"scan"},
)

WORKER = Role(
    "barque-worker",
    "runs jobs; its tasks may enqueue, too",
    own_keys=(*_JOBS, "barque:*"),
    queue_keys=(("", ""), ("", keys.HEALTH_SUFFIX)),
    commands=PRODUCER.commands
    | {"bzpopmin", "del", "zadd", "zmscore", "zrem", "zremrangebyscore"}
    # arq's own client, which ctx["redis"] is
    | {"psetex", "watch", "unwatch", "discard"},
    scripts=None,
    channels=(_RESULTS, keys.CONTROL_CHANNEL, *_LOOKING_ON),
)

READER = Role(
    "barque-reader",
    "looks on: barque status, job, top and tail, arq --check",
    own_keys=(*_JOBS, "barque:*"),
    queue_keys=(("", ""), ("", keys.HEALTH_SUFFIX)),
    # It asks workers to tell more; that is all it can publish.
    commands=_READING | {"info", "publish", "subscribe", "unsubscribe"},
    channels=_LOOKING_ON,
)

ROLES = (WORKER, PRODUCER, DASHBOARD, READER)
