-- complete: record the outcomes of many attempts, each only if its lease is still this attempt's.
--
-- KEYS: queues, in the order the worker names them
-- ARGV: 1 "1" if these were sent before and the reply was lost, else "0"
--       then for each outcome eight: kind, index of its queue from 0, id, token, attempt, x, y, z
--       kind "finish":  x keep the result for ms (0 = do not, -1 = for ever), y result,
--                       z keep the lease key as "done" for ms (0 = do not; cron ticks)
--       kind "retry":   x due again after ms
--       kind "return":  x due at (Unix ms), attempt counted: back to where it stood
--       kind "release": x due at (Unix ms), attempt not counted
-- Returns: two arrays of indexes from 0: outcomes refused because the lease was lost; outcomes that stand
--          recorded since the first sending
-- Invariant: a batch of N leaves the keyspace as N batches of one do, but for the wake marker, which is only
--            a hint. An outcome named in the reply changes nothing.
--
-- A batch sent again finds the leases it gave up itself gone. It recognises its work by what it left behind: the
-- same result bytes; no job at all, where no result was kept; or the job back in its queue with this attempt
-- counted, and nobody's since. The last may as well be a lease that ran out while the server was away, so a finish
-- is still taken then, and a put-back made once more: both are right whichever it was.

local STRIDE = 8
local again = ARGV[1] == '1'
local count = (#ARGV - 1) / STRIDE
local now = now_ms()
local leases = {}
for i = 1, count do leases[i] = LEASE .. ARGV[(i - 1) * STRIDE + 4] end
local holders = redis.call('MGET', unpack(leases))

local lost, repeated, gone, awake = {}, {}, {}, {}
local leaving, returning = {}, {} -- queue -> ids; queue -> scores and ids
local counts = {} -- keys and attempts
local ids, results, keeps, ticks = {}, {}, {}, {}

local function finish(queue, id, keep, result, done)
  leaving[queue] = leaving[queue] or {}
  table.insert(leaving[queue], id)
  gone[#gone + 1], gone[#gone + 2], gone[#gone + 3] = JOB .. id, RETRY .. id, LEASE .. id
  if done ~= '0' then ticks[id] = done end
  local n = #ids + 1
  ids[n], results[n], keeps[n] = id, result, keep
end

local function put_back(queue, id, attempts, due)
  if due <= now or redis.call('ZCOUNT', queue, '-inf', '(' .. due) == 0 then awake[queue] = true end
  gone[#gone + 1] = LEASE .. id
  if attempts > 0 then
    counts[#counts + 1], counts[#counts + 2] = RETRY .. id, attempts
  else
    gone[#gone + 1] = RETRY .. id
  end
  returning[queue] = returning[queue] or {}
  table.insert(returning[queue], due)
  table.insert(returning[queue], id)
end

-- What becomes of an outcome sent again whose lease is not there: "apply", "repeat" or "lost".
local function judge(kind, queue, id, attempt, holder, x, result)
  if kind == 'finish' and redis.pcall('GET', RESULT .. id) == result then return 'repeat' end
  local score = redis.call('ZSCORE', queue, id)
  if holder and holder ~= DONE then return 'lost' end
  if not score then
    local over = kind == 'finish' and x == '0' and redis.call('EXISTS', JOB .. id) == 0
    return over and 'repeat' or 'lost'
  end
  local begun = tonumber(redis.pcall('GET', RETRY .. id) or 0)
  if begun == attempt then return 'apply' end
  if kind == 'release' and begun == attempt - 1 and tonumber(score) == tonumber(x) then return 'repeat' end
  return 'lost'
end

local seen = {}
for i = 1, count do
  local at = 1 + (i - 1) * STRIDE
  local kind, queue, id, attempt = ARGV[at + 1], KEYS[tonumber(ARGV[at + 2]) + 1], ARGV[at + 3], tonumber(ARGV[at + 5])
  local x, y, z = ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  local verdict = 'apply'
  if seen[id] then
    verdict = 'lost'
  elseif holders[i] ~= ARGV[at + 4] then
    verdict = again and judge(kind, queue, id, attempt, holders[i], x, y) or 'lost'
  end
  if verdict == 'lost' then
    lost[#lost + 1] = i - 1
  elseif verdict == 'repeat' then
    repeated[#repeated + 1] = i - 1
  else
    seen[id] = true
    if kind == 'finish' then
      finish(queue, id, x, y, z)
    elseif kind == 'retry' then
      put_back(queue, id, attempt, now + tonumber(x))
    elseif kind == 'return' then
      put_back(queue, id, attempt, tonumber(x))
    else
      put_back(queue, id, attempt - 1, tonumber(x))
    end
  end
end

-- All that can fail has been read by now, and the first write needs no memory (see the prelude).
-- Lua's unpack takes some thousands of values; a batch of 1,000 stays below that.
if #gone > 0 then redis.call('DEL', unpack(gone)) end
for queue, members in pairs(leaving) do redis.pcall('ZREM', queue, unpack(members)) end
for queue, members in pairs(returning) do redis.call('ZADD', queue, unpack(members)) end
if #counts > 0 then redis.call('MSET', unpack(counts)) end
for i, id in ipairs(ids) do
  if keeps[i] == '-1' then
    redis.call('SET', RESULT .. id, results[i])
  elseif keeps[i] ~= '0' then
    redis.call('SET', RESULT .. id, results[i], 'PX', keeps[i])
  end
end
for id, done in pairs(ticks) do redis.call('SET', LEASE .. id, DONE, 'PX', done) end
if #ids > 0 and redis.call('EXISTS', ABORT) == 1 then redis.pcall('ZREM', ABORT, unpack(ids)) end
for queue in pairs(awake) do wake(queue) end
push_results(ids, results, keeps)
return { lost, repeated }
