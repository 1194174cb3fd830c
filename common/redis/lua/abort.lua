-- abort: end a waiting job now, or have the worker that runs it cancel it.
--
-- KEYS: 1 queue
-- ARGV: 1 id, 2 result to store for a job that was waiting, 3 keep it for ms (0 = do not)
-- Returns: "cancelled" (it was waiting and has ended), "running" (its worker has been told),
--          "missing" (no such job in this queue)
-- Invariant: a job that runs is ended by its own worker, which alone holds the lease.

local queue, id, result, keep = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local holder = redis.call('GET', LEASE .. id)
if holder and holder ~= DONE then
  redis.call('ZADD', ABORT, now_ms(), id)
  redis.pcall('PUBLISH', CONTROL, 'abort ' .. id)
  return 'running'
end
if not redis.call('ZSCORE', queue, id) then return 'missing' end
redis.call('ZREM', queue, id)
redis.call('DEL', JOB .. id, RETRY .. id)
redis.pcall('ZREM', ABORT, id)
redis.pcall('ZREM', LIFT .. queue, id)
if keep ~= '0' then redis.call('SET', RESULT .. id, result, 'PX', keep) end
if redis.call('EXISTS', queue) == 0 then redis.call('DEL', WAKE .. queue) end -- an empty queue leaves no key
push_results({ id }, { result }, { keep })
return 'cancelled'
