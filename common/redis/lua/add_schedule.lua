-- add_schedule: add a schedule while the fleet runs, or change one that was added so.
--
-- KEYS: 1 schedules, 2 their next ticks, 3 their last runs, 4 their declarations, 5 their revision, 6 paused ones
-- ARGV: 1 name, 2 record, 3 first tick after now (-1 if none), 4 1 to change one that is there else 0,
--       5 ms a declaration is believed
-- Returns: "added"; "changed"; "same" (it is there as it is); "exists" (and was not to be changed); "declared" (the
--          code of a live worker declares one of this name)
-- Invariant: a schedule that is changed keeps its last run and its pause; one that is the same keeps all.

local SCHEDULES, NEXT, LAST, DECLARED, REVISION, PAUSED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local name, record, first = ARGV[1], ARGV[2], ARGV[3]
local now = now_ms()
for last in string.gmatch(redis.call('HGET', DECLARED, name) or '', '%x+:%d+:(%d+)') do
  if tonumber(last) + ARGV[5] >= now then return 'declared' end
end
local stored = redis.call('HGET', SCHEDULES, name)
if stored == record then return 'same' end
if stored and ARGV[4] == '0' then return 'exists' end
redis.call('HSET', SCHEDULES, name, record)
redis.call('HDEL', DECLARED, name) -- what is left of code that nobody runs
if not stored then
  redis.call('HDEL', LAST, name)
  redis.call('ZREM', PAUSED, name)
end
if first == '-1' or redis.call('ZSCORE', PAUSED, name) then
  redis.call('ZREM', NEXT, name)
else
  redis.call('ZADD', NEXT, first, name)
end
redis.call('SET', REVISION, math.max(now, (tonumber(redis.call('GET', REVISION)) or 0) + 1))
redis.pcall('PUBLISH', CONTROL, 'schedules')
return stored and 'changed' or 'added'
