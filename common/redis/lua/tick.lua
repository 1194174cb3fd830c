-- tick: find which ticks of schedules are due, note last and next run, and enqueue their jobs, in one step.
--
-- KEYS: 1 schedules, 2 their next ticks, 3 their last runs, 4 their declarations, 5 their revision; then queues
-- ARGV: 1 revision the caller knows, 2 now as the caller thinks (Unix ms), 3 ms a declaration is believed,
--       4 ms of grace;
--       then for each schedule: name, index of its queue from 0, next tick the caller knows, "skip", "once" or "all",
--       1 if runs may overlap else 0, unique key of its jobs ("" = none), until ("done", "started", "time"), window ms,
--       priority and lane of its jobs ("" = none), tick after those that follow, their number;
--       and for each of these ticks, in order: tick (Unix ms), delay ms, job id, payload
-- Returns: now ms; 1 if the revision is the one in force, else 0 and nothing was done;
--          then for each schedule: word, index of the first tick that runs from 0, how many run, next tick in force
--          (-1 if none), error text.
--          The words: "ran"; "passed" (due ticks were left out, by the policy); "busy" (left out, the job of the run
--          before has not ended); "held" (left out, a job of its unique key is there, see unique_prelude.lua); "early"
--          (nothing is due, or the caller's clock is ahead: of the ticks before its now it names but the latest);
--          "taken" (another worker was first); "orphan" (declared by no live worker); "refused" (the queue took no job:
--          error text)
-- Invariant: a tick is judged by the server's clock, and only while the next tick is the one the caller knows: of many
--            workers that ask at once one is heard. Job and record are written together or not at all.

local SCHEDULES, NEXT, LAST, DECLARED, REVISION = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local FIXED_KEYS, HEAD, STRIDE = 5, 12, 4
local thought, believed, grace = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()
local met, unique_jobs = {}, 0
local reply = { now, 0 }
if redis.call('GET', REVISION) ~= ARGV[1] then return reply end
reply[2] = 1

-- Whether a schedule that workers declare is declared by none that lives.
local function orphaned(name)
  local seen = redis.call('HGET', DECLARED, name)
  if not seen then return false end
  for last in string.gmatch(seen, '%x+:%d+:(%d+)') do
    if tonumber(last) + believed >= now then return false end
  end
  return true
end

-- Returns the runs so far and whether the job of the last one has not ended.
local function last_run(name)
  local stored = redis.call('HGET', LAST, name)
  local runs, id = string.match(stored or '', '^%d+ %d+ (%d+) (.*)$')
  return tonumber(runs) or 0, id ~= nil and redis.call('EXISTS', JOB .. id) == 1
end

-- Returns an error text if the queue takes no job.
local function add(queue, id, payload, due, priority, lane)
  if redis.call('EXISTS', JOB .. id, LEASE .. id, RESULT .. id) > 0 then return end
  local placed = redis.pcall('ZADD', queue, due, id)
  if type(placed) == 'table' and placed.err then return placed.err end
  redis.call('SET', JOB .. id, payload)
  -- The first claim that finds it due gives it its head start, and has it join its lane.
  if priority > 0 then redis.pcall('ZADD', LIFT .. queue, due + LEAD + priority / 2048, id) end
  if lane ~= '' then
    local place = priority > 0 and due + LEAD + priority * LEAD_EACH or due
    redis.pcall('HSET', FAIR .. queue, id, string.format('%s %.17g', lane, place))
  end
  -- A new earliest job shortens the sleep of the worker that waits for the next due one.
  if due <= now or redis.call('ZCOUNT', queue, '-inf', '(' .. due) == 0 then wake(queue) end
end

-- Whether a job of the unique key keeps a tick away.
local function is_taken(key, till)
  local record = record_of(key)
  if record.err or not record[1] then return false end
  local how = standing(record[2], record[1])
  if how ~= 'gone' then met[#met + 1] = key end
  return is_held(now, tonumber(record[3]) or 0, how, till)
end

-- Which of the due ticks run: indexes of the first and the last.
local function chosen(policy, due, newest)
  if policy == 'all' then return 1, due end
  if policy == 'skip' and now - newest > grace then return 1, 0 end
  return due, due
end

local function judge(at)
  local name, queue, policy = ARGV[at], KEYS[FIXED_KEYS + 1 + ARGV[at + 1]], ARGV[at + 3]
  local key, till, window = ARGV[at + 5], ARGV[at + 6], tonumber(ARGV[at + 7])
  local priority, lane = tonumber(ARGV[at + 8]), ARGV[at + 9]
  local count, ticks = tonumber(ARGV[at + 11]), at + HEAD
  local in_force = tonumber(redis.call('ZSCORE', NEXT, name) or -1)
  if in_force ~= tonumber(ARGV[at + 2]) then return 'taken', 0, 0, in_force, '' end
  if in_force > now or thought > now then return 'early', 0, 0, in_force, '' end
  if orphaned(name) then return 'orphan', 0, 0, in_force, '' end
  local due = 0
  while due < count and tonumber(ARGV[ticks + STRIDE * due]) <= now do due = due + 1 end
  local following = due < count and tonumber(ARGV[ticks + STRIDE * due]) or tonumber(ARGV[at + 10])
  local first, last = 1, 0
  if due > 0 then first, last = chosen(policy, due, tonumber(ARGV[ticks + STRIDE * (due - 1)])) end
  local runs, running = last_run(name)
  local word = last >= first and 'ran' or 'passed'
  if word == 'ran' and running and ARGV[at + 4] == '0' then word, first, last = 'busy', 1, 0 end
  for i = first, last do
    local tick = ticks + STRIDE * (i - 1)
    local id, due_at = ARGV[tick + 2], now + ARGV[tick + 1]
    if key ~= '' and is_taken(key, till) then -- and so are those after it: they are of the same key
      last = i - 1
      if i == first then word = 'held' end
      break
    end
    local why = add(queue, id, ARGV[tick + 3], due_at, priority, lane)
    if why then
      if i == first then return 'refused', 0, 0, in_force, why end
      error({ err = why })
    end
    redis.call('HSET', LAST, name, string.format('%.0f %.0f %d %s', ARGV[tick], now, runs + i - first + 1, id))
    if key ~= '' then
      hold(key, id, queue, now, due_at, now + window, till ~= 'time', '0')
      unique_jobs = unique_jobs + 1
    end
  end
  if following >= 0 then redis.call('ZADD', NEXT, following, name) else redis.call('ZREM', NEXT, name) end
  return word, first - 1, last - first + 1, following, ''
end

local at = 5
while at <= #ARGV do
  local word, first, ran, following, why = judge(at)
  for _, part in ipairs({ word, first, ran, following, why }) do reply[#reply + 1] = part end
  at = at + HEAD + STRIDE * ARGV[at + 11]
end
for _, key in ipairs(met) do keep_on(key, now) end
if unique_jobs > 0 then sweep(now, unique_jobs) end
return reply
