-- await: ask for results to be pushed, and return those that are there already.
--
-- KEYS: none
-- ARGV: 1 channel to push to; then job ids
-- Returns: for each id its result, or 1 (will be pushed), or 0 (no such job, or its result is gone)
-- Invariant: looking and registering are one step, so a job that ends in between is not missed.

local channel = ARGV[1]
local reply, ended = {}, {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local found = redis.call('GET', RESULT .. id)
  if found then
    reply[#reply + 1] = found
    ended[#ended + 1] = id
  elseif redis.call('EXISTS', JOB .. id, LEASE .. id) == 0 then
    reply[#reply + 1] = 0
    ended[#ended + 1] = id
  else
    local channels = redis.call('HGET', WAITERS, id)
    if not channels then
      redis.call('HSET', WAITERS, id, channel)
    elseif not string.find(' ' .. channels .. ' ', ' ' .. channel .. ' ', 1, true) then
      redis.call('HSET', WAITERS, id, channels .. ' ' .. channel)
    end
    reply[#reply + 1] = 1
  end
end
-- A stock arq worker pushes nothing and takes nobody off the list.
if #ended > 0 then redis.call('HDEL', WAITERS, unpack(ended)) end
return reply
