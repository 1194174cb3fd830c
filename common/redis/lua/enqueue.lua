-- enqueue: add jobs to one queue, all or none of this call.
--
-- KEYS: 1 queue
-- ARGV: 1 number of fresh jobs; then for each fresh job: id, payload
--       then for each other job: id, payload, delay ms, due at (Unix ms, 0 = use the delay),
--       expires after ms (0 = never)
-- Returns: now ms, then for each other job 1 (added) or 0 (the id is taken: the job is there, or runs
--          though its payload has expired, or its result is still kept)
-- Invariant: a job's payload and its place in the queue appear together or not at all.
--
-- A fresh job has an id nobody can have used, is due now and never expires: no check, one MSET. Another may follow
-- one of the same id whose payload expired, or that nobody kept a result of: nothing of that one is left to it. One
-- that expires has its attempts counted from the start, so that it is still known of when its payload is gone.
--
-- The queue is written first: it alone can fail, where it is a key of another type, or memory is short.

local queue = KEYS[1]
local now = now_ms()
local reply = { now }
local fresh = tonumber(ARGV[1])
local awake = false
local old, wishes = {}, {}

if fresh > 0 then
  local payloads, places, due = {}, {}, decimal(now)
  local given = ARGV -- a local is looked up in a tenth of the time
  for i = 1, fresh do
    local id = given[2 * i]
    payloads[2 * i - 1], payloads[2 * i] = JOB .. id, given[2 * i + 1]
    places[2 * i - 1], places[2 * i] = due, id
  end
  redis.call('ZADD', queue, unpack(places))
  redis.call('MSET', unpack(payloads))
  awake = true
end

for i = 2 + 2 * fresh, #ARGV, 5 do
  local id, payload, delay, at, expires = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4]
  local key = JOB .. id
  if redis.call('EXISTS', key, LEASE .. id, RESULT .. id) > 0 then
    reply[#reply + 1] = 0
  else
    local due = at > 0 and at or now + tonumber(delay)
    -- A new earliest job shortens the sleep of the worker that waits for the next due one.
    awake = awake or due <= now or redis.call('ZCOUNT', queue, '-inf', '(' .. due) == 0
    redis.call('ZADD', queue, due, id)
    if expires == '0' then
      redis.call('SET', key, payload)
      old[#old + 1] = RETRY .. id
    else
      redis.call('SET', key, payload, 'PX', expires)
      redis.call('SET', RETRY .. id, 0)
    end
    old[#old + 1], old[#old + 2], old[#old + 3] = AWAITED .. id, PROGRESS .. id, STREAM .. id
    old[#old + 1] = ATTEMPTS .. id
    wishes[#wishes + 1] = id
    reply[#reply + 1] = 1
  end
end

if #old > 0 then
  redis.call('DEL', unpack(old))
  redis.pcall('ZREM', ABORT, unpack(wishes))
end
if awake then wake(queue) end
return reply
