-- pause_schedule: stop a schedule's ticks, or let them go on.
--
-- KEYS: 1 schedules, 2 their next ticks, 3 their last runs, 4 their declarations, 5 their revision, 6 paused ones
-- ARGV: 1 name, 2 first tick after now (-1 if none) to go on, "" to pause
-- Returns: "missing"; "same" (it is paused already, or it is not); "done"
-- Invariant: a schedule is paused or has a next tick, never both: ticks that come while it is paused are not missed.

local SCHEDULES, NEXT, REVISION, PAUSED = KEYS[1], KEYS[2], KEYS[5], KEYS[6]
local name, first = ARGV[1], ARGV[2]
local now = now_ms()
if redis.call('HEXISTS', SCHEDULES, name) == 0 then return 'missing' end
local paused = redis.call('ZSCORE', PAUSED, name) and true or false
if paused == (first == '') then return 'same' end
if first == '' then
  redis.call('ZADD', PAUSED, now, name)
  redis.call('ZREM', NEXT, name)
else
  redis.call('ZREM', PAUSED, name)
  if first ~= '-1' then redis.call('ZADD', NEXT, first, name) end
end
redis.call('SET', REVISION, math.max(now, (tonumber(redis.call('GET', REVISION)) or 0) + 1))
redis.pcall('PUBLISH', CONTROL, 'schedules')
return 'done'
