-- enqueue_ranked: add jobs of a priority to one queue, all or none of this call.
--
-- KEYS: 1 queue
-- ARGV: 1 number of fresh jobs; then for each fresh job three: id, payload, priority
--       then for each other job six: id, payload, delay ms, due at (Unix ms, 0 = use the delay),
--       expires after ms (0 = never), priority
-- Returns: now ms, then for each other job 1 (added) or 0 (the id is taken), as of enqueue.lua
-- Invariant: a job's payload and its place in the queue appear together or not at all; no job is due before its time.
--
-- As enqueue.lua, which is kept short for jobs that have no priority. One that is due stands before its due time by an
-- hour for each step of its priority, so that it is claimed before what has waited for less than that. One that is due
-- later stands at its due time, and beside it in a sorted set from which claim.lua gives it its head start then.

local FRESH, STRIDE = 3, 6
local queue = KEYS[1]
local now = now_ms()
local reply = { now }
local fresh = tonumber(ARGV[1])
local places, payloads, later, old, wishes = {}, {}, {}, {}, {}
local added, expiring = {}, {}
local awake = fresh > 0

local function place(due, id, priority)
  if due <= now and priority > 0 then
    local earliest = math.ceil(1 - priority * LEAD_EACH) -- a score of 0 and less is arq's, for at once
    due = math.max(due, earliest) + LEAD + priority * LEAD_EACH
  end
  places[#places + 1], places[#places + 2] = due, id
end

for i = 2, 1 + FRESH * fresh, FRESH do
  place(now, ARGV[i], tonumber(ARGV[i + 2]))
  payloads[#payloads + 1], payloads[#payloads + 2] = JOB .. ARGV[i], ARGV[i + 1]
end

for i = 2 + FRESH * fresh, #ARGV, STRIDE do
  local id, delay, at, expires, priority = ARGV[i], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4], tonumber(ARGV[i + 5])
  local key = JOB .. id
  if added[id] or redis.call('EXISTS', key, LEASE .. id, RESULT .. id) > 0 then
    reply[#reply + 1] = 0
  else
    local due = at > 0 and at or now + tonumber(delay)
    -- A new earliest job shortens the sleep of the worker that waits for the next due one.
    awake = awake or due <= now or redis.call('ZCOUNT', queue, '-inf', '(' .. due) == 0
    place(due, id, priority)
    if due > now and priority > 0 then
      later[#later + 1], later[#later + 2] = due + LEAD + priority / 2048, id
    end
    if expires == '0' then
      payloads[#payloads + 1], payloads[#payloads + 2] = key, ARGV[i + 1]
      old[#old + 1] = RETRY .. id
    else
      expiring[#expiring + 1] = i
    end
    added[id] = true
    old[#old + 1] = AWAITED .. id
    wishes[#wishes + 1] = id
    reply[#reply + 1] = 1
  end
end

-- All that can fail has been read by now, but for the queue: written first, it alone can be of another type.
if #places > 0 then
  redis.call('ZADD', queue, unpack(places))
  if #payloads > 0 then redis.call('MSET', unpack(payloads)) end
  for _, i in ipairs(expiring) do
    redis.call('SET', JOB .. ARGV[i], ARGV[i + 1], 'PX', ARGV[i + 4])
    redis.call('SET', RETRY .. ARGV[i], 0)
  end
  if #later > 0 then redis.pcall('ZADD', LIFT .. queue, unpack(later)) end
end
if #old > 0 then
  redis.call('DEL', unpack(old))
  redis.pcall('ZREM', ABORT, unpack(wishes))
end
if awake then wake(queue) end
return reply
