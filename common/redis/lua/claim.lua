-- claim: take due jobs under leases, in order of their due time.
--
-- KEYS: queues, the first one first
-- ARGV: 1 most jobs to take, 2 lease ms, 3 worker id, 4 number of this claim
-- Returns: now ms; next due ms (earliest score in the future, -1 if none); jobs in all queues;
--          then for each job taken: id, payload (nil if it expired), attempt, due ms,
--          1 if it is to be aborted else 0, index of its queue from 0
-- Invariant: each job taken has a lease key with token "worker:attempt:claim", its attempt counted, and
--            its score at the end of the lease, so that it is due again by itself if the worker dies.
--            What was taken is always told, though another queue be a key of another type.
--
-- A stock arq worker leaves the score of a job it runs where it was. Such jobs stand in front of the due
-- ones; they are skipped by paging on, MOST_PAGES times at most. The first page is as large as the room there is;
-- where it was full of such jobs the next are large, so that a worker with room for one job gets past them too.

local MOST_PAGES, LARGE_PAGE = 20, 250
local MOST_ATTEMPTS = 1000000000 -- what a foreign program may have counted; a token holds the number in full
local LATEST = 9007199254740991
-- Wishes to abort whose job is gone are dropped after a day, some at a time. arq's own workers never do.
local OLD_WISH, MOST_WISHES = 86400000, 100
local free, lease, worker, claim = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local now = now_ms()
-- One past the lease: when the score is due, the lease key has expired for certain.
local lease_end = now + lease + 1
local aborting = redis.call('EXISTS', ABORT) == 1
local HEAD = 3
local reply = { now, -1, 0 }

local function bounded(attempt)
  if attempt ~= attempt then return 1 end -- not a number
  return math.floor(math.max(1, math.min(attempt, MOST_ATTEMPTS)))
end

-- Take what is free of one page, as far as there is room. Returns how many others hold.
local function take(queue, index, page)
  local count = #page / 2
  local keys, ids = {}, {}
  for i = 1, count do
    local id = page[2 * i - 1]
    ids[i], keys[i], keys[count + i], keys[2 * count + i] = id, LEASE .. id, RETRY .. id, JOB .. id
  end
  local found = redis.call('MGET', unpack(keys))
  local aborts = aborting and redis.pcall('ZMSCORE', ABORT, unpack(ids))
  local attempts, places, ended, held = {}, {}, {}, 0
  for i = 1, count do
    local id, holder = ids[i], found[i]
    if #places == 2 * free then break end
    if not holder then
      local attempt = (tonumber(found[count + i]) or 0) + 1
      if attempt ~= math.floor(attempt) or attempt < 1 or attempt > MOST_ATTEMPTS then attempt = bounded(attempt) end
      if #reply == HEAD then redis.call('DEL', keys[i]) end -- a write that needs no memory (see the prelude)
      redis.call('SET', keys[i], worker .. ':' .. attempt .. ':' .. claim, 'PX', lease)
      attempts[#attempts + 1] = keys[count + i]
      attempts[#attempts + 1] = attempt
      places[#places + 1] = lease_end
      places[#places + 1] = id
      local n = #reply
      reply[n + 1], reply[n + 2], reply[n + 3] = id, found[2 * count + i], attempt
      reply[n + 4], reply[n + 5], reply[n + 6] = page[2 * i], (aborts and aborts[i]) and 1 or 0, index - 1
    elseif holder == DONE then
      ended[#ended + 1] = id
    else
      held = held + 1
    end
  end
  if #places > 0 then
    redis.call('MSET', unpack(attempts))
    redis.call('ZADD', queue, unpack(places))
    free = free - #places / 2
  end
  if #ended > 0 then
    redis.call('ZREM', queue, unpack(ended))
    for _, id in ipairs(ended) do redis.call('DEL', JOB .. id) end
  end
  return held
end

local function serve(index, queue)
  local offset, pages = 0, 0
  while free > 0 and pages < MOST_PAGES do
    local asked = pages == 0 and free or math.max(free, LARGE_PAGE)
    local page = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'WITHSCORES', 'LIMIT', offset, asked)
    if #page == 0 then break end
    offset = offset + take(queue, index, page)
    pages = pages + 1
    if #page / 2 < asked then break end
  end
  if free == 0 and #redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', offset, 1) > 0 then
    wake(queue) -- more is due than this worker can take: pass the wake-up on
  end
  local next_due = tonumber(redis.call('ZRANGEBYSCORE', queue, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
  if next_due and (reply[2] == -1 or next_due < reply[2]) then reply[2] = math.min(next_due, LATEST) end
  local size = redis.call('ZCARD', queue)
  if size == 0 then redis.call('DEL', WAKE .. queue) end -- an empty queue wakes nobody, and leaves no key
  reply[3] = reply[3] + size
end

local function drop_old_wishes()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', ABORT, '-inf', now - OLD_WISH, 'LIMIT', 0, MOST_WISHES)) do
    if redis.call('EXISTS', JOB .. id, LEASE .. id) == 0 then
      redis.call('ZREM', ABORT, id)
    else
      redis.call('ZADD', ABORT, now, id) -- looked at again in a day
    end
  end
end

local failure
for index, queue in ipairs(KEYS) do
  local ok, why = pcall(serve, index, queue)
  if not ok then failure = failure or why end
end
if failure and #reply == HEAD then error(failure) end
if aborting then pcall(drop_old_wishes) end
return reply
