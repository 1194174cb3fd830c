-- stand_aside: have jobs wait for no limit any more that came to a worker and never asked whether they may begin.
--
-- KEYS: queues, in the order the worker names them
-- ARGV: for each job three: index of its queue from 0, id, token of the attempt
-- Returns: how many waited, as far as that is known
-- Invariant: a job that waits for a limit now, having come back since, goes on waiting. Where one goes that was to look
--            for a place, or had one kept for it, the next of the lane looks.
--
-- Such a job was the first of a lane, or had been called up, and then had expired, say, or its deadline had passed, or
-- its task has no limits any more.

local STRIDE = 3
local now = now_ms()
local aside = 0

for at = 1, #ARGV, STRIDE do
  local queue, id, token = KEYS[tonumber(ARGV[at]) + 1], ARGV[at + 1], ARGV[at + 2]
  local holder = redis.pcall('GET', LEASE .. id)
  local score = redis.pcall('ZSCORE', queue, id)
  local is_back = not holder and type(score) == 'string' and waits_for_limit(score)
  if holder == token or (not holder and not is_back) then
    aside = aside + redis.call('EXISTS', LIMIT_WAIT .. id)
    wait_no_more(queue, id, now)
  end
end
return aside
