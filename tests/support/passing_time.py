"""Let time pass on a server without waiting for it.

A server's clock cannot be set, but what is stored relative to it can: `pass_time` moves every time in the keyspace
back by so much, in one step, which is what it would look like that much later. It knows queues, leases, the records of
unique keys, and times to live. A job that runs meanwhile has its lease run out: wait for its end first.
"""

import redis.asyncio

from common.redis import keys

__all__ = ["pass_time"]

_SCRIPT = """
local ms, wake, unique = tonumber(ARGV[1]), ARGV[2], ARGV[3]
for _, key in ipairs(redis.call('KEYS', '*')) do
  local ttl, kind = redis.call('PTTL', key), redis.call('TYPE', key).ok
  if kind == 'zset' and string.sub(key, 1, #wake) ~= wake then
    local found = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #found, 2 do redis.call('ZINCRBY', key, -ms, found[i]) end
  elseif kind == 'hash' and string.sub(key, 1, #unique) == unique then
    for _, name in ipairs({ 'free', 'first' }) do redis.call('HINCRBY', key, name, -ms) end
  end
  if ttl >= 0 then redis.call('PEXPIRE', key, ttl - ms) end
end
"""


async def pass_time(client: redis.asyncio.Redis, seconds: float) -> None:
    """Make everything so many seconds older."""
    await client.eval(_SCRIPT, 0, str(round(seconds * 1000)), keys.WAKE, keys.UNIQUE)
