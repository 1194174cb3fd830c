-- await: ask for results to be pushed, and return those that are there already.
--
-- KEYS: none
-- ARGV: 1 channel to push to; then job ids
-- Returns: for each id its result, or 2 (it is there, but this reply is large already: fetch it), or 1 (will be
--          pushed), or 0 (no such job, or its result is gone)
-- Invariant: looking and registering are one step, so a job that ends in between is not missed.
--
-- A job whose payload has expired is still in its queue until a worker ends it; its count of attempts tells.

local LARGEST_REPLY = 8388608 -- bytes of results
local MOST_CHANNELS = 16 -- for one job; whoever is pushed off the list looks each second
local channel = ARGV[1]
local reply, ended, size = {}, {}, 0

-- The id of an ended cron tick is refused for a while by its lease key; nobody runs it any more.
local function is_under_way(id)
  if redis.call('EXISTS', JOB .. id, RETRY .. id) > 0 then return true end
  local holder = redis.pcall('GET', LEASE .. id)
  return holder and holder ~= DONE
end

local function register(id)
  local channels = redis.pcall('HGET', WAITERS, id)
  if not channels then
    redis.pcall('HSET', WAITERS, id, channel)
  elseif not channels.err and not string.find(' ' .. channels .. ' ', ' ' .. channel .. ' ', 1, true) then
    -- Producers that went away without a word would stay on the list for as long as the job waits.
    local _, count = string.gsub(channels, '%S+', '')
    if count >= MOST_CHANNELS then channels = string.match(channels, '^%S+%s+(.*)$') end
    redis.pcall('HSET', WAITERS, id, channels .. ' ' .. channel)
  end
end

for i = 2, #ARGV do
  local id = ARGV[i]
  local found = redis.pcall('GET', RESULT .. id)
  local under_way = not found and is_under_way(id)
  if not found and not under_way then found = redis.pcall('GET', AWAITED .. id) end
  if under_way then
    register(id)
    reply[#reply + 1] = 1
  else
    ended[#ended + 1] = id
    if not found or found.err then
      reply[#reply + 1] = 0
    elseif size + #found > LARGEST_REPLY and size > 0 then
      reply[#reply + 1] = 2
    else
      size = size + #found
      reply[#reply + 1] = found
    end
  end
end
-- A stock arq worker pushes nothing and takes nobody off the list.
if #ended > 0 then redis.pcall('HDEL', WAITERS, unpack(ended)) end
return reply
