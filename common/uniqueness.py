"""When two jobs of a task are the same one, and what is done then: `Unique`, `Debounce`, `Throttle`.

Owns the declarations, the key each makes of a call's arguments, and the rule that the server is told. Pure: that of two
producers one is heard is common/redis/lua/enqueue_unique.lua's. docs/unique_jobs.md says what users may rely on.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from common.errors import ConfigurationError
from common.values import canonical

__all__ = [
    "Debounce",
    "Rule",
    "Throttle",
    "Unique",
    "UniqueTick",
    "Uniqueness",
    "check_key",
    "check_uniqueness",
    "digest_of",
    "key_of",
]

Key = str | Sequence[str] | Callable[..., Any] | None

_LONGEST = 10 * 365 * 24 * 3600.0


class Rule(NamedTuple):
    """What the server is told of a declaration; the words are enqueue_unique.lua's.

    Attributes:
        until: what of the job that has the key keeps others away: that it waits or runs ("done"), that it waits for
            its first attempt ("started"), or nothing but the window ("time").
        window_ms: from its enqueue on, whatever becomes of it; 0 is none.
        quiet_ms: due after this; 0 is as the enqueue says.
        at_most_ms: however often it is replaced, due so long after the first enqueue at the latest; 0 is no limit.
    """

    until: Literal["done", "started", "time"]
    window_ms: int
    on_conflict: Literal["return", "replace", "reject", "trail"]
    quiet_ms: int = 0
    at_most_ms: int = 0

    @property
    def replaces(self) -> bool:
        """Whether the job that is there may get another payload."""
        return self.on_conflict in {"replace", "trail"}


class UniqueTick(NamedTuple):
    """What the server is told of the jobs of a schedule whose task is unique: the key's digest, and of its `Rule`."""

    key: str
    until: str
    window_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """At most one job of a key at a time.

        @task(unique=Unique(key="user_id"))
        async def sync_user(ctx: Context, user_id: str, reason: str) -> None: ...

    Attributes:
        key: which arguments make two jobs the same: the name of one, several names, a callable that is given the
            arguments, or None for all of them.
        until: others are kept away until the job is "done" (has ended, however), or only until it is "started" (its
            first attempt has begun); with None `for_` alone counts.
        for_: others are kept away for so long from its enqueue at the least, seconds or a timedelta, whatever becomes
            of it.
        on_conflict: what an enqueue does that meets such a job: "return" it; "replace" its arguments and due time, if
            no attempt of it has begun, else return it; or "reject", which raises `DuplicateJob`.
    """

    key: Key = None
    until: Literal["done", "started"] | None = "done"
    for_: float | timedelta | None = None
    on_conflict: Literal["return", "replace", "reject"] = "return"

    def __post_init__(self) -> None:
        _check_form(self)
        if self.until not in {"done", "started", None}:
            raise ConfigurationError(f'Unique(until={self.until!r}): give "done", "started", or None with for_=')
        if self.on_conflict not in {"return", "replace", "reject"}:
            raise ConfigurationError(f'Unique(on_conflict={self.on_conflict!r}): give "return", "replace" or "reject"')
        if self.until is None and self.for_ is None:
            raise ConfigurationError("Unique(until=None) keeps nobody away: give for_=, for how long it shall")
        if self.for_ is not None:
            _ms("Unique", "for_", self.for_)

    @property
    def rule(self) -> Rule:
        """What the server is told."""
        window = 0 if self.for_ is None else _ms("Unique", "for_", self.for_)
        return Rule(self.until or "time", window, self.on_conflict)


@dataclass(frozen=True, slots=True)
class Debounce:
    """Run once it is quiet: each call replaces the arguments of the job that waits, and puts it off again.

        @task(unique=Debounce(5, at_most=60, key="document_id"))
        async def index_document(ctx: Context, document_id: str) -> None: ...

    A call that comes when the job has begun makes a new one.

    Attributes:
        quiet: seconds (or a timedelta) from the last call until it is due.
        at_most: seconds from the first call until it is due at the latest; None puts it off without end.
        key: see `Unique`.
    """

    quiet: float | timedelta
    at_most: float | timedelta | None = None
    key: Key = None

    def __post_init__(self) -> None:
        _check_form(self)
        quiet = _ms("Debounce", "quiet", self.quiet)
        if self.at_most is not None and _ms("Debounce", "at_most", self.at_most) < quiet:
            raise ConfigurationError(
                f"Debounce({self.quiet!r}, at_most={self.at_most!r}): it cannot be due before it was quiet for so "
                "long; give at_most= as much as quiet, or more"
            )

    @property
    def rule(self) -> Rule:
        """What the server is told."""
        at_most = 0 if self.at_most is None else _ms("Debounce", "at_most", self.at_most)
        return Rule("started", 0, "replace", _ms("Debounce", "quiet", self.quiet), at_most)


@dataclass(frozen=True, slots=True)
class Throttle:
    """Run at most once per window: the first call is enqueued, and others are not until the window is over.

        @task(unique=Throttle(60, key="user_id", trailing=True))
        async def refresh_feed(ctx: Context, user_id: str) -> None: ...

    A window begins with the call that is enqueued.

    Attributes:
        per: the window, seconds or a timedelta.
        trailing: the last call of a window runs too, when the window is over, and begins the next one.
        key: see `Unique`.
        on_conflict: what the other calls of a window do: "return" the job that was enqueued, or "reject", which raises
            `DuplicateJob`. With `trailing` there are none.
    """

    per: float | timedelta
    trailing: bool = False
    key: Key = None
    on_conflict: Literal["return", "reject"] = "return"

    def __post_init__(self) -> None:
        _check_form(self)
        _ms("Throttle", "per", self.per)
        if self.on_conflict not in {"return", "reject"}:
            raise ConfigurationError(f'Throttle(on_conflict={self.on_conflict!r}): give "return" or "reject"')
        if self.trailing and self.on_conflict == "reject":
            raise ConfigurationError("Throttle(trailing=True) rejects no call: take on_conflict= or trailing= away")

    @property
    def rule(self) -> Rule:
        """What the server is told."""
        return Rule("time", _ms("Throttle", "per", self.per), "trail" if self.trailing else self.on_conflict)


Uniqueness = Unique | Debounce | Throttle
"""What `unique=` takes."""


def check_uniqueness(given: object) -> None:
    """Return if it is what `unique=` takes.

    Raises:
        ConfigurationError: it is not.
    """
    if not isinstance(given, Uniqueness):
        raise ConfigurationError(
            f"unique={given!r}: give Unique(…), Debounce(…) or Throttle(…); Unique() alone makes a job unique by all "
            "its arguments until it is done"
        )


def check_key(uniqueness: Uniqueness, signature: inspect.Signature, task: str) -> None:
    """Return if a task of this signature has the arguments that the key names.

    Raises:
        ConfigurationError: it has not.
    """
    names = [uniqueness.key] if isinstance(uniqueness.key, str) else uniqueness.key
    if names is None or callable(names):
        return
    known = list(signature.parameters)[1:]
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        kind = type(uniqueness).__name__
        raise ConfigurationError(
            f"{kind}(key={unknown!r}): the task {task!r} has no argument of that name; "
            f"it takes: {', '.join(known) or 'none'}"
        )


def key_of(uniqueness: Uniqueness, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what tells a call from others: plain data, or what becomes it.

    Args:
        signature: of the task's function, the context its first parameter.
    """
    key = uniqueness.key
    if callable(key):
        return key(*args, **kwargs)
    bound = signature.bind(None, *args, **kwargs)
    bound.apply_defaults()
    arguments = dict(list(bound.arguments.items())[1:])
    if key is None:
        return arguments
    return arguments[key] if isinstance(key, str) else [arguments[name] for name in key]


def digest_of(task: str, key: Any) -> str:
    """Return the name under which the server knows a key of a task: 32 hexadecimal digits, whatever the key is.

    Raises:
        NotSerializable: it has no form on the wire; the message has the path to the part.
    """
    name = task.encode(errors="surrogateescape")
    body = canonical(key, what=f"{task}: the unique key")
    return hashlib.blake2b(len(name).to_bytes(4) + name + body, digest_size=16).hexdigest()


def _check_form(uniqueness: Uniqueness) -> None:
    key = uniqueness.key
    if key is None or callable(key) or (isinstance(key, str) and key):
        return
    if isinstance(key, tuple | list) and key and all(isinstance(name, str) and name for name in key):
        return
    kind = type(uniqueness).__name__
    raise ConfigurationError(
        f"{kind}(key={key!r}): give the name of an argument, several names, a callable of the arguments, or None for "
        "all of them"
    )


def _ms(kind: str, name: str, value: object) -> int:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.001 <= seconds <= _LONGEST:
        raise ConfigurationError(f"{kind}({name}={value!r}): give seconds, or a timedelta, above zero")
    return round(seconds * 1000)
