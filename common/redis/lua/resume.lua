-- resume: have a queue claimed from again, or jobs of a task begun.
--
-- KEYS: none
-- ARGV: 1 "queue" or "task", 2 its name, 3 id of the task's door, "" of a queue
-- Returns: 1 (it was paused) or 0
-- Invariant: as long as jobs of a task wait in the lane of its door, it is noted that they are to be called up
--            (call_up.lua), so that whoever sees the note can go on with that.

local kind, name, door = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HDEL', PAUSED, kind .. ':' .. name) == 0 then return 0 end
if kind == 'queue' then
  local size = redis.pcall('ZCARD', name)
  if type(size) == 'number' and size > 0 then wake(name) end
elseif redis.call('EXISTS', LIMIT_LANE .. door) == 1 then
  redis.call('HSET', PAUSED, 'resuming:' .. name, decimal(now_ms()) .. ' ')
end
redis.pcall('PUBLISH', CONTROL, 'pauses')
return 1
