"""A server whose time stands still, or passes by the minute: what the state machine does its steps on.

The scripts go by the server's clock, which nobody can set. So the world is moved instead of the clock: one script
takes every time that the keyspace holds (the scores that are times, and what is left of keys that expire) back by as
many minutes as are to pass, and ends the keys whose time is over. For whatever runs next this is the same as if that
time had passed, and it is so at once.

The same script takes out what the real clock added since it last ran: each time is set to the minute it is nearest to,
counted from now. Nothing here lasts for less than a minute, so a step may take half a minute of real time and nobody
sees it: what is due at the same minute is due at the same millisecond, and no timing decides anything. The scripts
under test are those of production, byte by byte.

What is due now is put a few milliseconds back, so that it is due for the next command, however quick that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import redis.asyncio

from common.redis.push import listen
from common.redis.wire import call
from tests.chaos.store_model import AT_ONCE, shown_time

__all__ = ["MINUTE", "Heard", "World"]

MINUTE = 60_000

_SETTLE = """
local MINUTE, BACK, LONG_AGO = 60000, 5, 1e11
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local base, passed = now - BACK, tonumber(ARGV[1])
local found, early = {}, {}
local function nearest(ms) return math.floor(ms / MINUTE + 0.5) end
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  -- Lists are the histories of attempts, of which the model knows nothing: the tests of each script do.
  if kind ~= 'list' then found[#found + 1] = { key, kind, redis.call('PTTL', key) } end
end
-- Looked at before anything is moved: a job must not be due before its lease is over.
for _, entry in ipairs(found) do
  if entry[2] == 'zset' then
    entry[4] = redis.call('ZRANGE', entry[1], 0, -1, 'WITHSCORES')
    for i = 1, #entry[4], 2 do
      local lease, score = 'arq:in-progress:' .. entry[4][i], tonumber(entry[4][i + 1])
      if score % 1 == 0.5 and string.find(redis.call('GET', lease) or '', ':', 1, true) then
        if redis.call('PEXPIRETIME', lease) >= score then early[#early + 1] = entry[4][i] end
      end
    end
  end
end
local shown = {}
for _, entry in ipairs(found) do
  local key, kind, ttl = entry[1], entry[2], entry[3]
  local left, value = -1, false
  if ttl >= 0 then
    left = math.max(nearest(ttl) - passed, 0)
    if left == 0 then redis.call('DEL', key) else redis.call('PEXPIREAT', key, base + left * MINUTE) end
  end
  if left ~= 0 then
    if kind == 'string' then
      value = redis.call('GET', key)
    elseif kind == 'hash' then
      value = redis.call('HGETALL', key)
    elseif kind == 'zset' then
      value = {}
      for i = 1, #entry[4], 2 do
        local member, score = entry[4][i], tonumber(entry[4][i + 1])
        local half = score % 1 == 0.5
        local minutes = nearest(score - now) - passed
        if score >= LONG_AGO then
          -- A wish to abort has a fraction of its own (abort.lua), and so has a job of a priority (prelude.lua).
          local past = half and 1.5 or score % 1
          redis.call('ZADD', key, string.format('%.17g', base + minutes * MINUTE + past), member)
          value[#value + 1] = { member, half and 1 or 0, minutes }
        else
          value[#value + 1] = { member, -1, math.floor(score) }
        end
      end
    end
    shown[#shown + 1] = { key, kind, left, value }
  end
end
for i = 2, #ARGV do redis.call('PUBLISH', ARGV[i], '') end
return { string.format('%.0f', base), shown, early }
"""


class Heard:
    """What one subscriber to a channel was sent. An empty message says that nothing more is under way."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.messages: list[bytes] = []
        self.ready = asyncio.Event()
        self.all_here = asyncio.Event()

    def take(self, message: bytes) -> None:
        if message:
            self.messages.append(message)
        else:
            self.all_here.set()

    async def listen(self, client: redis.asyncio.Redis) -> None:
        await listen(client, self.channel, self.take, subscribed=self.ready.set)

    def drain(self) -> list[bytes]:
        messages, self.messages = self.messages, []
        return messages


class World:
    """One server's keyspace, by the minute.

    Attributes:
        space: every key, in the notation of tests/support/keyspace.py, as it was when it was last settled.
        early: running jobs that would have been due before their lease was over.
    """

    def __init__(self, client: redis.asyncio.Redis, heard: Sequence[Heard]) -> None:
        self.client = client
        self.heard = heard
        self.now = 0
        self.space: dict[str, Any] = {}
        self.early: list[str] = []
        self._base = 0

    async def settle(self, minutes: int = 0) -> None:
        """Let so many minutes pass, and look at all there is; what was published has arrived then."""
        for listener in self.heard:
            listener.all_here.clear()
        channels = [listener.channel for listener in self.heard]
        base, shown, early = await call(self.client, ("EVAL", _SETTLE, 0, minutes, *channels))
        async with asyncio.timeout(30):
            for listener in self.heard:
                await listener.all_here.wait()
        self.now += minutes
        self._base = int(base)
        self.early = [_text(job_id) for job_id in early]
        self.space = {_text(key): _value(kind, left, value) for key, kind, left, value in shown}

    def ms(self, minute: int) -> int:
        """Return a minute of this world as Unix ms by the server's clock, until time is settled again."""
        return 1 if minute == AT_ONCE else self._base + (minute - self.now) * MINUTE

    def minute(self, ms: int) -> int:
        """Return which minute of this world that is."""
        return AT_ONCE if ms == 1 else self.now + round((ms - self._base) / MINUTE)


def _value(kind: bytes, left: int, value: Any) -> Any:
    if kind == b"zset":
        return {_text(member): n if mark < 0 else shown_time(n, begun=mark == 1) for member, mark, n in value}
    if kind == b"hash":
        return {_text(name): content for name, content in zip(value[::2], value[1::2], strict=True)}
    if kind != b"string":
        return kind.decode()
    return value if left < 0 else (value, f"{60 * left}s")


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")
