-- remove_schedule: remove a schedule and all there is of it.
--
-- KEYS: 1 schedules, 2 their next ticks, 3 their last runs, 4 their declarations, 5 their revision, 6 paused ones
-- ARGV: 1 name, 2 ms a declaration is believed
-- Returns: "removed"; "missing"; "declared" (the code of a live worker declares it, and would bring it back)
-- Invariant: jobs that came of it are left alone. After the last schedule no key is left.

local SCHEDULES, NEXT, LAST, DECLARED, REVISION, PAUSED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local name = ARGV[1]
local now = now_ms()
if redis.call('HEXISTS', SCHEDULES, name) == 0 then return 'missing' end
for last in string.gmatch(redis.call('HGET', DECLARED, name) or '', '%x+:%d+:(%d+)') do
  if tonumber(last) + ARGV[2] >= now then return 'declared' end
end
redis.call('HDEL', SCHEDULES, name)
redis.call('HDEL', LAST, name)
redis.call('HDEL', DECLARED, name)
redis.call('ZREM', NEXT, name)
redis.call('ZREM', PAUSED, name)
if redis.call('EXISTS', SCHEDULES) == 0 then
  redis.call('DEL', REVISION)
else
  redis.call('SET', REVISION, math.max(now, (tonumber(redis.call('GET', REVISION)) or 0) + 1))
end
redis.pcall('PUBLISH', CONTROL, 'schedules')
return 'removed'
