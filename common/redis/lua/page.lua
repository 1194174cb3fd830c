-- page: some jobs of a queue in its order, from behind a place whose job may have gone.
--
-- KEYS: 1 queue
-- ARGV: 1 "due" (those whose time has come) or "later" (the others), 2 score and 3 id of the job to go on behind
--       (2 "" = from the first), 4 most jobs
-- Returns: now ms; then for each job: id, score
-- Invariant: nothing is written; and a job that keeps its place while somebody pages is never passed over. Those before
--            it may go or come meanwhile, and jobs of one score are any number: no offset would do, nor a score alone.

local queue, side, after, behind, most = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = now_ms()

-- Whether one id sorts after another. Lua's own comparison goes by the server's locale, a sorted set's by bytes.
local function sorts_after(id, other)
  for i = 1, math.min(#id, #other) do
    local a, b = string.byte(id, i), string.byte(other, i)
    if a ~= b then return a > b end
  end
  return #id > #other
end

-- How many jobs stand up to this place, it included.
local function up_to(score, last)
  local low = redis.call('ZCOUNT', queue, '-inf', '(' .. score)
  local high = low + redis.call('ZCOUNT', queue, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if sorts_after(redis.call('ZRANGE', queue, middle, middle)[1], last) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

local first, stop = 0, math.huge
if after ~= '' then first = up_to(after, behind) end
local due = redis.call('ZCOUNT', queue, '-inf', now)
if side == 'due' then
  stop = due
else
  first = math.max(first, due)
end
local last = math.min(first + most, stop) - 1
local reply = { now }
if last >= first then
  for i, part in ipairs(redis.call('ZRANGE', queue, first, last, 'WITHSCORES')) do reply[i + 1] = part end
end
return reply
