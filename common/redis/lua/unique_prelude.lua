-- unique_prelude: what the scripts start with that heed unique keys, behind prelude.lua.
--
-- A key's record is a hash: job and queue, whose it is; free, until when (Unix ms) the key is taken whatever becomes of
-- that job; first, when the job was enqueued; trailing, "1" where the job waits for the end of a window.
--
-- Nothing is done about a record when its job ends: whoever meets it looks where the job stands. A record that says no
-- more than a time goes with the time. Others have a time to live that is longer than jobs wait, and begins anew when
-- somebody meets them; and enqueues sweep, some at a time, those whose job has gone, so that they do not pile up.

local KEEP = 2592000000 -- 30 days
local FIRST_LOOK, LONGEST_BETWEEN_LOOKS = 60000, 86400000
local SWEPT_PER_JOB, MOST_SWEPT = 3, 200
local longest_kept = 0

local function record_of(key)
  return redis.pcall('HMGET', UNIQUE .. key, 'job', 'queue', 'free', 'first', 'trailing')
end

-- How a job stands: "gone", "waiting" (for its first attempt; and its score), or "begun". A job without a place in its
-- queue is gone, though its payload be there: nobody would ever run it.
local function standing(queue, id)
  local holder = redis.pcall('GET', LEASE .. id)
  if holder and holder ~= DONE then return 'begun' end
  local score = redis.pcall('ZSCORE', queue, id)
  local lane = not score and redis.pcall('HGET', LANED .. queue, id)
  if type(lane) == 'string' then score = redis.pcall('ZSCORE', LANE .. queue .. ':' .. lane, id) end
  if type(score) ~= 'string' or redis.call('EXISTS', JOB .. id) == 0 then return 'gone' end
  local counted = tonumber(redis.pcall('GET', RETRY .. id)) or 0
  if counted > 0 or string.sub(score, -2) == '.5' then return 'begun' end
  return 'waiting', score
end

-- Whether a record keeps a job away. till: what of its job does, "done", "started" or "time".
local function is_held(now, free, how, till)
  return now < free or (till == 'done' and how ~= 'gone') or (till == 'started' and how == 'waiting')
end

local function keep(key, ms)
  redis.call('PEXPIRE', UNIQUE .. key, decimal(ms))
  longest_kept = math.max(longest_kept, ms)
end

-- Give a key to a job. lasting: the record is to live for as long as the job does.
local function hold(key, id, queue, now, due, free, lasting, trailing)
  local record = UNIQUE .. key
  redis.call('HSET', record, 'job', id, 'queue', queue, 'free', decimal(free), 'first', decimal(now),
    'trailing', trailing)
  if lasting then
    local over = math.max(now, due, free)
    keep(key, over - now + KEEP)
    redis.pcall('ZADD', UNIQUES, decimal(over + FIRST_LOOK), key)
  else
    redis.call('PEXPIRE', record, decimal(free - now))
  end
end

-- Somebody who heeds the job met this record, and the job is there: it is to live on.
local function keep_on(key, now)
  if redis.call('PTTL', UNIQUE .. key) < KEEP then keep(key, KEEP) end
  redis.pcall('ZADD', UNIQUES, 'NX', decimal(now + FIRST_LOOK), key)
end

-- Take away records whose job has gone, and have the list of them go by itself once nobody enqueues any more.
local function sweep(now, jobs)
  local most = math.min(MOST_SWEPT, SWEPT_PER_JOB * jobs)
  local found = redis.pcall('ZRANGEBYSCORE', UNIQUES, '-inf', decimal(now), 'LIMIT', 0, most)
  for _, key in ipairs(found) do
    local record = record_of(key)
    local free, first = tonumber(record[3]) or 0, tonumber(record[4]) or 0
    if record.err or not record[1] then
      redis.call('ZREM', UNIQUES, key)
    elseif now >= free and standing(record[2], record[1]) == 'gone' then
      redis.call('UNLINK', UNIQUE .. key)
      redis.call('ZREM', UNIQUES, key)
    else
      local pause = math.max(FIRST_LOOK, math.min(now - first, LONGEST_BETWEEN_LOOKS))
      redis.call('ZADD', UNIQUES, decimal(math.max(free, now + pause)), key)
    end
  end
  if longest_kept > 0 and redis.pcall('PTTL', UNIQUES) < longest_kept then
    redis.pcall('PEXPIRE', UNIQUES, decimal(longest_kept))
  end
end
