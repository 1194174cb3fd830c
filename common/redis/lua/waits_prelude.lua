-- waits_prelude: what the scripts start with by which a job goes, or is moved, that may wait for a limit.
--
-- Only the first of a gate's lane comes by itself to look for a place, and whoever was called up has a place kept for
-- it (gates_prelude.lua). So when either of them goes without asking, the next is to look in its stead: nobody else
-- would tell it, and all behind it would stand there until a job's score says that all else has failed.

local WAITING_LEAST, WAITING_IN_LANE = 2043 / 2048, 2045 / 2048
local MOST_GONE_FROM_LANE = 100

-- Whether a score is that of a job that waits for a limit, or was told that it may ask again.
local function waits_for_limit(score)
  return tonumber(score) % 1 >= WAITING_LEAST
end

-- Have the first of a lane that is still there, and can be claimed, come to look at that time.
local function have_first_look(lane, when)
  local passed_over = 0
  for _ = 1, MOST_GONE_FROM_LANE do
    local first = redis.pcall('ZRANGE', lane, passed_over, passed_over)[1]
    if not first then return end
    local length, at = string.match(first, '^(%d+):()')
    local queue, id = string.sub(first, at, at + length - 1), string.sub(first, at + length)
    local score = redis.pcall('ZSCORE', queue, id)
    local is_there = type(score) == 'string' and tonumber(score) % 1 == WAITING_IN_LANE
    if is_there and redis.pcall('HEXISTS', PAUSED, 'queue:' .. queue) == 1 then
      passed_over = passed_over + 1
    elseif is_there then
      redis.pcall('ZADD', queue, 'XX', 'LT', string.format('%.17g', math.floor(when) + WAITING_IN_LANE), id)
      return wake(queue)
    elseif redis.call('EXISTS', LEASE .. id) == 1 then
      return -- in a worker's hands, which is about to ask
    else
      redis.call('ZREM', lane, first)
    end
  end
end

-- Have a job wait for no limit any more: it has ended, or is due at another time and asks anew then.
-- score: where it stood in its queue, which of the first of a lane is when it was to look; nil for one that came.
local function wait_no_more(queue, id, now, score)
  local gate = redis.pcall('GET', LIMIT_WAIT .. id)
  if type(gate) ~= 'string' then return end
  gate = string.match(gate, '^%S*') -- behind it stands since when, where that is to be known
  redis.call('DEL', LIMIT_WAIT .. id)
  local lane, member = LIMIT_LANE .. gate, #queue .. ':' .. queue .. id
  local was_first = redis.pcall('ZRANGE', lane, 0, 0)[1] == member
  local had_place = redis.pcall('ZREM', LIMIT_HELD .. gate, id) == 1
  redis.pcall('ZREM', lane, member)
  if string.sub(gate, 1, 5) == 'door:' then return end -- of a paused task: nobody looks until it is resumed
  if had_place or (was_first and not score) then
    have_first_look(lane, now)
  elseif was_first then
    have_first_look(lane, tonumber(score))
  end
end
