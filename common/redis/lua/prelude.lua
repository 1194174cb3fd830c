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
local ATTEMPTS = 'barque:attempts:'
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
  redis.pcall('ZADD', WAKE .. queue, '0', 'due')
end
