-- prelude: what every script starts with. scripts.py puts this text in front of each of them.
-- The key names are those of keys.py; a test holds the two against each other.
--
-- Redis refuses for want of memory only what a script writes first. So a script that takes or ends jobs begins
-- with a write that needs no memory: a full server still drains. And what may fail for a reason that is not the
-- job's (rights on channels, a key of another type) is called by pcall, so that no script stops half-way.

local JOB, LEASE, RETRY, RESULT = 'arq:job:', 'arq:in-progress:', 'arq:retry:', 'arq:result:'
local ABORT, WAKE, WAITERS, CONTROL = 'arq:abort', 'barque:wake:', 'barque:waiters', 'barque:control'
local AWAITED, LIFT = 'barque:result:', 'barque:lift:'
local LANES, FAIR, LANED, LANE = 'barque:lanes:', 'barque:fair:', 'barque:laned:', 'barque:lane:'
local PROGRESS, STREAM, WATCHERS = 'barque:progress:', 'barque:stream:', 'barque:watchers:'
local DEAD, ABOUT, LETTER = 'barque:dead', 'barque:dead:about', 'barque:dead:letter:'
local PAUSED = 'barque:paused'
local UNIQUE, UNIQUES = 'barque:unique:', 'barque:unique'
local LIMIT, LIMIT_HELD, LIMIT_LANE = 'barque:limit:', 'barque:limit-held:', 'barque:limit-lane:'
local LIMIT_WAIT, LIMITS = 'barque:limit-wait:', 'barque:limits'

-- What an ended cron tick leaves in its lease key, so that a late second enqueue of it is dropped.
local DONE = 'done'

-- How the score of a wish to abort ends that was made of a job that was there (abort.lua). One of a stock arq client is
-- a whole number, and may be older than the job of its id: only a worker can tell whether it means that one (scores.py).
local MEANT = '.25'

-- The score of a job of a priority above 0 is its due time, and this, and for each step of the priority this more: it
-- stands an hour earlier for each, and its fraction says so (scores.py).
local LEAD, LEAD_EACH = 2032 / 2048, 1 / 2048 - 3600000

-- Results larger than this are not pushed but fetched: one subscriber's buffer holds many of them.
local LARGEST_PUSH = 65536

-- Bytes of results in one message. A subscriber is cut off when its buffer grows past 32 MB (the default), and the
-- server sends nothing while a script runs: past this, results are fetched too.
local LARGEST_MESSAGE = 1048576

-- For how long a result that is not to be kept waits to be fetched, where somebody asked for it: a push is lost
-- when the subscriber's connection is.
local KEEP_AWAITED = 60000

-- Unix time in ms by the server's clock, the only one that counts.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A number as Redis takes it. A script's own numbers are written with 17 digits each time they are passed on, which
-- costs as much as a small command: what is passed for each of many jobs is made a string once.
local function decimal(n)
  return string.format('%.0f', n)
end

-- The score of a running job: one past its lease, so that the lease key has expired for certain when the score is due;
-- and half a millisecond, which says that an attempt had begun that no arq:retry key counts.
local function lapse(now, lease)
  return string.format('%.1f', now + lease + 1.5)
end

-- Let one idle worker of the queue wake up. One member at most: a marker, not a counter.
local function wake(queue)
  redis.pcall('ZADD', WAKE .. queue, 0, 'due')
end

-- A big-endian u32. Redis's struct library would do, but is not part of Lua, nor of fakeredis.
local function u32(n)
  return string.char(math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
end

-- Push ended jobs to whoever waits for them.
-- ids, results: arrays of equal length; results[i] may be ''. keeps[i]: '0' where it has no result key.
-- Message: frames of two big-endian u32 lengths, id, result; a result length of 0 says "fetch it".
local function push_results(ids, results, keeps)
  if #ids == 0 or redis.call('EXISTS', WAITERS) == 0 then return end
  local waiting = redis.pcall('HMGET', WAITERS, unpack(ids))
  if waiting.err then return end
  local frames, sizes, served = {}, {}, {}
  for i, channels in ipairs(waiting) do
    if channels then
      local id, body = ids[i], results[i]
      served[#served + 1] = id
      if keeps[i] == '0' then redis.call('SET', AWAITED .. id, body, 'PX', KEEP_AWAITED) end
      local fetch = u32(#id) .. u32(0) .. id
      local whole = #body <= LARGEST_PUSH and u32(#id) .. u32(#body) .. id .. body
      for channel in string.gmatch(channels, '%S+') do
        local size = sizes[channel] or 0
        frames[channel] = frames[channel] or {}
        if whole and size + #body <= LARGEST_MESSAGE then
          sizes[channel] = size + #body
          table.insert(frames[channel], whole)
        else
          table.insert(frames[channel], fetch)
        end
      end
    end
  end
  for channel, parts in pairs(frames) do redis.pcall('PUBLISH', channel, table.concat(parts)) end
  if #served > 0 then redis.pcall('HDEL', WAITERS, unpack(served)) end
end
