-- replay_dead: put jobs that failed for good back into their queue, under their ids, attempts counted anew.
--
-- KEYS: 1 queue
-- ARGV: 1 due again after ms; then job ids
-- Returns: for each id 1 (it is in the queue again), 0 (the id is taken: a job of that id is there, or runs, or has
--          ended since with another result), -1 (no job of that id failed for good in this queue, or its letter is
--          no longer kept)
-- Invariant: a job has its place in the queue and its payload, or it has its letter: never both, never neither.
--
-- The result of the failure goes with the letter: whoever waits for the job from now on gets how it ends this time.
-- A result with other bytes is that of another job of this id, and is left alone. As in enqueue.lua the queue is
-- written first: it alone can fail.

local queue = KEYS[1]
local now = now_ms()
local due = now + tonumber(ARGV[1])
local reply = {}
local awake = false

local function is_free(id, digest)
  if redis.call('EXISTS', JOB .. id, LEASE .. id) > 0 or redis.call('ZSCORE', queue, id) then return false end
  local result = redis.pcall('GET', RESULT .. id)
  if type(result) ~= 'string' then return not result end
  return digest == (redis.sha1hex and redis.sha1hex(result) or result) -- as complete.lua wrote it
end

for i = 2, #ARGV do
  local id = ARGV[i]
  local letter = redis.pcall('HMGET', LETTER .. id, 'queue', 'payload', 'result')
  if letter.err or letter[1] ~= queue or not letter[2] then
    reply[i - 1] = -1
  elseif not is_free(id, letter[3]) then
    reply[i - 1] = 0
  else
    awake = awake or due <= now or redis.call('ZCOUNT', queue, '-inf', '(' .. decimal(due)) == 0
    redis.call('ZADD', queue, decimal(due), id)
    redis.call('SET', JOB .. id, letter[2])
    redis.call('DEL', RETRY .. id, RESULT .. id, AWAITED .. id, PROGRESS .. id, STREAM .. id, LETTER .. id)
    redis.call('DEL', ATTEMPTS .. id) -- they are counted anew
    redis.pcall('HDEL', ABOUT, id)
    redis.pcall('ZREM', DEAD, id)
    redis.pcall('ZREM', ABORT, id)
    reply[i - 1] = 1
  end
end

if awake then wake(queue) end
return reply
