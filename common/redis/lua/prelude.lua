-- prelude: what every script starts with. scripts.py puts this text in front of each of them.
-- The key names are those of keys.py; a test holds the two against each other.

local JOB, LEASE, RETRY, RESULT = 'arq:job:', 'arq:in-progress:', 'arq:retry:', 'arq:result:'
local ABORT, WAKE, WAITERS, CONTROL = 'arq:abort', 'barque:wake:', 'barque:waiters', 'barque:control'

-- What an ended cron tick leaves in its lease key, so that a late second enqueue of it is dropped.
local DONE = 'done'

-- Results larger than this are not pushed but fetched: one subscriber's buffer holds many of them.
local LARGEST_PUSH = 65536

-- Unix time in ms by the server's clock, the only one that counts.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Let one idle worker of the queue wake up. One member at most: a marker, not a counter.
local function wake(queue)
  redis.call('ZADD', WAKE .. queue, 0, 'due')
end

-- A big-endian u32. Redis's struct library would do, but is not part of Lua, nor of fakeredis.
local function u32(n)
  return string.char(math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
end

-- Push ended jobs to whoever waits for them.
-- ids, results: arrays of equal length; results[i] may be ''. kept[i]: whether it can be fetched.
-- Message: frames of two big-endian u32 lengths, id, result; a result length of 0 says "fetch it".
local function push_results(ids, results, kept)
  if #ids == 0 or redis.call('EXISTS', WAITERS) == 0 then return end
  local waiting = redis.call('HMGET', WAITERS, unpack(ids))
  local messages, served = {}, {}
  for i, channels in ipairs(waiting) do
    if channels then
      served[#served + 1] = ids[i]
      local body = results[i]
      if kept[i] and #body > LARGEST_PUSH then body = '' end
      local frame = u32(#ids[i]) .. u32(#body) .. ids[i] .. body
      for channel in string.gmatch(channels, '%S+') do
        messages[channel] = (messages[channel] or '') .. frame
      end
    end
  end
  for channel, message in pairs(messages) do redis.call('PUBLISH', channel, message) end
  if #served > 0 then redis.call('HDEL', WAITERS, unpack(served)) end
end

