-- abort: end waiting jobs now, and have the workers of running ones cancel them.
--
-- KEYS: 1 queue
-- ARGV: 1 keep the results for ms (0 = do not), 2 "1" to leave alone what runs; then for each job three: id, SHA-1 of
--       the payload it is to have ("" = whatever it is), result to store if it waits
-- Returns: for each job 2 (it waited, and has ended), 1 (its worker has been told), 0 (no such job in this queue),
--          -1 (it has another payload: the id was enqueued again since somebody looked), -2 (it runs, and was left alone)
-- Invariant: a job that runs is ended by its own worker, which alone holds the lease; and only the attempt that runs
--            now is told of, by its token, never a later one of the same id.
--
-- A wish in the set carries a quarter of a millisecond, which says that the job was there when it was made (see MEANT
-- in the prelude). Of a payload that is not there the digest is that of an empty one.

local STRIDE = 3
local queue, keep, spares_running = KEYS[1], ARGV[1], ARGV[2] == '1'
local now = now_ms()
local lanes = lanes_of(queue, now)
local wish
local reply, ended, results, keeps = {}, {}, {}, {}

local function has_changed(id, digest)
  if digest == '' or not redis.sha1hex then return false end -- fakeredis has none
  local payload = redis.pcall('GET', JOB .. id)
  return redis.sha1hex(type(payload) == 'string' and payload or '') ~= digest
end

local function tell_worker(id, token)
  redis.call('DEL', LIMIT_WAIT .. id) -- a write that needs no memory (see the prelude); a running job waits for none
  wish = wish or decimal(now_ms()) .. MEANT
  redis.call('ZADD', ABORT, wish, id)
  redis.pcall('PUBLISH', CONTROL, 'abort ' .. token .. ' ' .. id)
end

local function end_now(id, result, score)
  redis.call('ZREM', queue, id)
  lanes.leave(id)
  redis.call('DEL', JOB .. id, RETRY .. id)
  wait_no_more(queue, id, now, score)
  redis.pcall('ZREM', ABORT, id)
  redis.pcall('ZREM', LIFT .. queue, id)
  if keep ~= '0' then
    redis.call('SET', RESULT .. id, result, 'PX', keep)
    redis.call('PEXPIRE', ATTEMPTS .. id, keep)
  else
    redis.call('DEL', ATTEMPTS .. id)
  end
  ended[#ended + 1], results[#results + 1], keeps[#keeps + 1] = id, result, keep
end

for i = 3, #ARGV, STRIDE do
  local id, digest, result = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local holder = redis.pcall('GET', LEASE .. id)
  local runs = type(holder) == 'string' and holder ~= DONE
  local word = 0
  local score = redis.call('ZSCORE', queue, id)
  if not runs and not score and not lanes.holds(id) then
    word = 0
  elseif has_changed(id, digest) then
    word = -1
  elseif runs and spares_running then
    word = -2
  elseif runs then
    tell_worker(id, holder)
    word = 1
  else
    end_now(id, result, score)
    word = 2
  end
  reply[#reply + 1] = word
end

if #ended > 0 then
  if redis.call('EXISTS', queue, LANED .. queue) == 0 then redis.call('DEL', WAKE .. queue) end -- an empty queue leaves no key
  push_results(ended, results, keeps)
end
return reply
