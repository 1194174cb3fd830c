-- call_up: put jobs that wait since their task was paused back to where they stood in their queues, some at a time.
--
-- KEYS: none
-- ARGV: 1 the task's name, 2 id of its door, 3 most jobs
-- Returns: how many wait still; -1 if the task was paused again
-- Invariant: a job is in the lane, or due in its queue in its old place, with its priority. One that was moved, ended or
--            claimed meanwhile is left alone.
--
-- Sent again, or by several at once, it goes on where the other one was.

local name, door, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('HEXISTS', PAUSED, 'task:' .. name) == 1 then return -1 end
local lane = LIMIT_LANE .. door
local heads = redis.call('ZPOPMIN', lane, most) -- a write that needs no memory (see the prelude)
local marks = {}
for i = 1, #heads, 2 do
  local queue, id = parts_of(heads[i])
  local rank = tonumber(heads[i + 1])
  local score = redis.pcall('ZSCORE', queue, id)
  if type(score) == 'string' and code_of(score) == PARKED then
    local priority = (rank - math.floor(rank)) * 16
    local place = priority > 0 and math.floor(rank) + LEAD + priority / 2048 or rank
    redis.pcall('ZADD', queue, 'XX', string.format('%.17g', place), id)
    marks[#marks + 1] = LIMIT_WAIT .. id
    woken[queue] = true
  end
end
if #marks > 0 then redis.call('DEL', unpack(marks)) end
local left = redis.call('ZCARD', lane)
if left == 0 then
  redis.call('HDEL', PAUSED, 'resuming:' .. name)
  redis.call('DEL', LIMIT .. door)
  redis.call('ZREM', LIMITS, door)
end
for queue in pairs(woken) do wake(queue) end
return left
