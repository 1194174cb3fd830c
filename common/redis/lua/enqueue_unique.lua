-- enqueue_unique: add jobs unless one of the same unique key is there; else return, replace or reject.
--
-- KEYS: queues
-- ARGV: for each job seventeen: index of its queue from 0, unique key, id, payload, 1 if the id is of the producer's
--       making and so this job's alone else 0, delay ms, due at (Unix ms, 0 = use the delay), expires after ms
--       (0 = never), until ("done", "started", "time"), window ms, on conflict ("return", "replace", "reject",
--       "trail"), at most ms (0 = no limit), index of the queue that the other payload is signed for (-1 = nothing is
--       signed: the payload will do), id that it is signed for, the other payload ("" = the payload), priority,
--       lane ("" = none)
-- Returns: for each job three: word, id, queue. The words: "added"; "there" (nothing was done: this job has the key,
--          or the id); "replaced" (this job has the payload now); "rejected" (this job has the key); "sign" (this job
--          is to have the payload: sign it for that, and ask again); "refused" (error text in the place of the id)
-- Invariant: of the jobs of a key that come while it is held one is in a queue, besides a throttle's trailing one. What
--            is sent again is found to be there, and is not in conflict with itself. A job's payload, its place and the
--            record of its key appear together or not at all.
--
-- A replaced job keeps its id, its queue, and its place if both it and the new one are due, or it waits for a limit. One of which an attempt has
-- begun is never changed.
--
-- As in enqueue.lua the queue is written first: it alone can fail. Records that are to live on are seen to at the end,
-- for a server without memory refuses no write that comes behind one that needs none.

local STRIDE = 17
local now = now_ms()
local reply, awake, met = {}, {}, {}

-- Returns an error text if the queue takes no job.
local function place(queue, id, due)
  local placed = redis.pcall('ZADD', queue, due, id)
  if type(placed) == 'table' and placed.err then return placed.err end
  -- A new earliest job shortens the sleep of the worker that waits for the next due one.
  if tonumber(due) <= now or redis.call('ZCOUNT', queue, '-inf', '(' .. due) == 0 then awake[queue] = true end
end

-- The first claim that finds it due gives it its head start, and has it join its lane.
local function note_rank(at, queue, id, due)
  local priority, lane = tonumber(ARGV[at + 15]), ARGV[at + 16]
  if priority > 0 then redis.pcall('ZADD', LIFT .. queue, due + LEAD + priority / 2048, id) end
  if lane ~= '' then
    local place = priority > 0 and due + LEAD + priority * LEAD_EACH or due
    lanes_of(queue, now).mark(id, lane, place)
  end
end

local function write(id, payload, expires)
  if expires == '0' then
    redis.call('SET', JOB .. id, payload)
    redis.call('DEL', RETRY .. id)
  else
    redis.call('SET', JOB .. id, payload, 'PX', expires)
    redis.call('SET', RETRY .. id, 0) -- still known of when the payload is gone, see enqueue.lua
  end
end

local function due_of(at)
  local moment = tonumber(ARGV[at + 6])
  return moment > 0 and moment or now + tonumber(ARGV[at + 5])
end

local function add(at, due, free, trailing)
  local queue, key, id = KEYS[ARGV[at] + 1], ARGV[at + 1], ARGV[at + 2]
  local why = place(queue, id, decimal(due))
  if why then return 'refused', why, '' end
  note_rank(at, queue, id, due)
  write(id, ARGV[at + 3], ARGV[at + 7])
  redis.call('DEL', AWAITED .. id, PROGRESS .. id, STREAM .. id, ATTEMPTS .. id)
  redis.pcall('ZREM', ABORT, id)
  hold(key, id, queue, now, due, free, ARGV[at + 8] ~= 'time' or trailing, trailing and '1' or '0')
  return 'added', id, queue
end

local function replace(at, id, queue, score, due)
  local signed_for, payload = tonumber(ARGV[at + 12]), ARGV[at + 3]
  if signed_for >= 0 then
    if ARGV[at + 13] ~= id or KEYS[signed_for + 1] ~= queue then return 'sign', id, queue end
    if ARGV[at + 14] ~= '' then payload = ARGV[at + 14] end
  end
  if due then lanes_of(queue, now).leave(id) end
  if due or redis.pcall('HEXISTS', LANED .. queue, id) ~= 1 then
    local why = place(queue, id, due and decimal(due) or score)
    if why then return 'refused', why, '' end
  end
  if due then
    wait_no_more(queue, id, now, score)
    note_rank(at, queue, id, due)
  end
  write(id, payload, ARGV[at + 7])
  -- Of one that a task put off, or a worker gave back: what it told was of other arguments.
  redis.call('DEL', PROGRESS .. id, STREAM .. id, ATTEMPTS .. id)
  return 'replaced', id, queue
end

-- When a job is due that is replaced; nil where it keeps its place. A score with a fraction was not asked for by an
-- enqueue: the job is kept waiting by a limit, say, and is called up at that place or not at all.
local function put_off(at, score, first)
  local number = tonumber(score)
  if ARGV[at + 5] == '0' and ARGV[at + 6] == '0' and (number <= now or number % 1 ~= 0) then return nil end
  local at_most = tonumber(ARGV[at + 11])
  return at_most > 0 and math.min(due_of(at), first + at_most) or due_of(at)
end

-- What is to be done about a job that meets the record of its key; nothing where that keeps it not away.
local function meet(at, record, is_own)
  local id, queue, free, first = record[1], record[2], tonumber(record[3]) or 0, tonumber(record[4]) or 0
  local till, on_conflict, trailing = ARGV[at + 8], ARGV[at + 10], record[5] == '1'
  local how, score = standing(queue, id)
  if how ~= 'gone' and till ~= 'time' then met[#met + 1] = ARGV[at + 1] end
  if on_conflict == 'trail' then
    if trailing and how == 'waiting' then return replace(at, id, queue, score) end
    if now >= free then return end
    if is_own then return 'there', id, queue end
    return add(at, math.max(free, due_of(at)), free + tonumber(ARGV[at + 9]), true)
  end
  if not is_held(now, free, how, till) then return end
  if on_conflict == 'replace' and how == 'waiting' then
    return replace(at, id, queue, score, put_off(at, score, first))
  end
  return (on_conflict == 'reject' and not is_own) and 'rejected' or 'there', id, queue
end

local function settle(at)
  local queue, id, is_minted = KEYS[ARGV[at] + 1], ARGV[at + 2], ARGV[at + 4] == '1'
  local is_taken = redis.call('EXISTS', JOB .. id, LEASE .. id, RESULT .. id) > 0
  local record = record_of(ARGV[at + 1])
  if record.err then return 'refused', record.err, '' end
  local is_own = record[1] == id
  if is_minted and (is_taken or is_own) then return 'added', id, queue end -- sent before, and the reply was lost
  if is_taken and not is_own then return 'there', id, queue end
  if record[1] then
    local word, other, its_queue = meet(at, record, is_own)
    if word then return word, other, its_queue end
    if is_taken then return 'there', id, queue end
  end
  return add(at, due_of(at), now + tonumber(ARGV[at + 9]), false)
end

for at = 1, #ARGV, STRIDE do
  local word, id, queue = settle(at)
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = word, id, queue
end
for _, key in ipairs(met) do keep_on(key, now) end
for queue in pairs(awake) do wake(queue) end
sweep(now, #ARGV / STRIDE)
return reply
