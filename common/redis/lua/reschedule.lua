-- reschedule: have a job that waits come due at another time.
--
-- KEYS: 1 queue
-- ARGV: 1 id, 2 due after ms, 3 due at (Unix ms, 0 = use the delay)
-- Returns: word, and when it is due (Unix ms); the words: "moved"; "running" (a worker has it); "missing" (no such job
--          in this queue); "expires" (its payload goes before then, and the time is when)
-- Invariant: the attempts counted so far stay counted, one that was lost among them: it stood in the score alone.
--
-- One that waits in its tenant's lane leaves it, and joins it again when it is due.
--
-- A priority stays with the job: it is in the score of one that is due, and beside the queue for one that is due later
-- (see enqueue_ranked.lua). Any other fraction of the score said since when no worker knew the task (scores.py): that
-- time begins anew, as somebody has looked after the job.

local MOST_URGENT = 9
local KEEP_HISTORY = 2592000000 -- as complete.lua does
local queue, id, delay, at = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()
local holder = redis.pcall('GET', LEASE .. id)
if type(holder) == 'string' and holder ~= DONE then return { 'running', 0 } end

-- The priority told by a score in the queue, or beside it; 0 where it tells none.
local function told_by(score)
  local steps = steps_of(tonumber(score))
  return steps <= MOST_URGENT and steps or 0
end

local function priority_of(score)
  if told_by(score) > 0 then return told_by(score) end
  local noted = redis.pcall('ZSCORE', LIFT .. queue, id)
  if type(noted) ~= 'string' or math.floor(tonumber(noted)) ~= tonumber(score) then return 0 end
  return told_by(noted)
end

local lanes = lanes_of(queue, now)
local lane, place_there = lanes.of(id)
local score = redis.call('ZSCORE', queue, id) or place_there
if not score then return { 'missing', 0 } end
local due = at > 0 and at or now + delay
local left = redis.call('PTTL', JOB .. id)
if left == -2 then return { 'expires', now } end
if left >= 0 and due >= now + left then return { 'expires', now + left } end
redis.call('DEL', AWAITED .. id) -- an earlier job's of this id, if any; and a write that needs no memory (see the prelude)
if string.sub(score, -2) == '.5' then -- a lease that ran out: the attempt under it counts
  local attempt = decimal((tonumber(redis.pcall('GET', RETRY .. id) or 0) or 0) + 1)
  redis.call('SET', RETRY .. id, attempt)
  local noted = redis.pcall('RPUSH', ATTEMPTS .. id, 'lost ' .. attempt .. ' ' .. score)
  if type(noted) == 'number' then redis.call('PEXPIRE', ATTEMPTS .. id, decimal(math.max(0, due - now) + KEEP_HISTORY)) end
end
local priority, place = priority_of(score), due
if due <= now and priority > 0 then
  place = math.max(due, math.ceil(1 - priority * LEAD_EACH)) + LEAD + priority * LEAD_EACH
end
if lane then
  lanes.leave(id)
  lanes.mark(id, lane, due + (priority > 0 and LEAD + priority * LEAD_EACH or 0))
end
redis.call('ZADD', queue, place, id)
wait_no_more(queue, id, now, score) -- it asks its limits anew
if due > now and priority > 0 then
  redis.pcall('ZADD', LIFT .. queue, due + LEAD + priority / 2048, id)
else
  redis.pcall('ZREM', LIFT .. queue, id)
end
if due <= now or redis.call('ZCOUNT', queue, '-inf', '(' .. decimal(due)) == 0 then wake(queue) end
return { 'moved', due }
