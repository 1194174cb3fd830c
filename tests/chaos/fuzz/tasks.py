"""Tasks for payloads that went wrong: plain, typed, and with defaults. A worker imports them by `BARQUE_TASKS`."""

from __future__ import annotations

from typing import Any

from common import NEVER, Context, task

__all__ = ["echo", "measure", "square"]


@task(retry=NEVER, timeout=20)
async def square(ctx: Context, number: int) -> int:
    return number * number


@task(retry=NEVER, timeout=20)
async def echo(ctx: Context, *values: Any, **named: Any) -> Any:
    return [list(values), named]


@task(retry=NEVER, timeout=20)
async def measure(ctx: Context, words: list[str], scale: float = 1.0, *, limits: dict[str, int] | None = None) -> float:
    return sum(map(len, words)) * scale + sum((limits or {}).values())
