-- enqueue_ranked: add jobs of a priority, or of tenants that take turns, to one queue, all or none of this call.
--
-- KEYS: 1 queue
-- ARGV: 1 number of fresh jobs; then for each fresh job four: id, payload, priority, lane ('' = none)
--       then for each other job seven: id, payload, delay ms, due at (Unix ms, 0 = use the delay),
--       expires after ms (0 = never), priority, lane
-- Returns: now ms, then for each other job 1 (added) or 0 (the id is taken), as of enqueue.lua
-- Invariant: a job's payload and its place, in the queue or in its lane, appear together or not at all; no job is due
--            before its time. A lane that has jobs which are due has one of them as its head in the queue.
--
-- As enqueue.lua, which is kept short for jobs that ask for neither. One that is due stands before its due time by an
-- hour for each step of its priority, so that it is claimed before what has waited for less than that. One that is due
-- later stands at its due time, and beside it in a sorted set from which claim.lua gives it its head start then.
--
-- Of a lane's jobs the first stands in the queue, the others wait behind it; one of a higher priority takes its place.

local FRESH, STRIDE = 4, 7
local queue = KEYS[1]
local now = now_ms()
local reply = { now }
local fresh = tonumber(ARGV[1])
local places, payloads, later, old, wishes = {}, {}, {}, {}, {}
local added, expiring = {}, {}
local heads, new_heads, marks, laned, joining = {}, {}, {}, {}, {}
local stepping_back, behind = {}, {}
local awake = fresh > 0

local function with_head_start(due, priority)
  if priority == 0 then return due end
  local earliest = math.ceil(1 - priority * LEAD_EACH) -- a score of 0 and less is arq's, for at once
  return math.max(due, earliest) + LEAD + priority * LEAD_EACH
end

local function mark(id, lane, score)
  marks[#marks + 1], marks[#marks + 2] = id, string.format('%s %.17g', lane, score)
end

local function head_of(lane)
  local head = heads[lane]
  if head == nil then
    local id = redis.call('HGET', LANES .. queue, lane)
    local its_mark = id and redis.call('HGET', FAIR .. queue, id)
    local score = its_mark and tonumber(string.match(its_mark, ' (%S+)$'))
    head = id and { id, steps_of(score or 0), its_mark } or false
    heads[lane] = head
  end
  return head
end

local function join(lane, id, score)
  behind[id] = true
  laned[#laned + 1], laned[#laned + 2] = id, lane
  joining[lane] = joining[lane] or {}
  table.insert(joining[lane], score)
  table.insert(joining[lane], id)
end

local function place(due, id, priority, lane)
  local score = with_head_start(due, priority)
  if due > now then
    places[#places + 1], places[#places + 2] = due, id
    if priority > 0 then later[#later + 1], later[#later + 2] = due + LEAD + priority / 2048, id end
    if lane ~= '' then mark(id, lane, score) end
    return
  end
  local head = lane ~= '' and head_of(lane)
  if head and (priority <= head[2] or not head[3]) then return join(lane, id, score) end
  places[#places + 1], places[#places + 2] = score, id
  if lane ~= '' then
    if head then stepping_back[#stepping_back + 1] = head end
    mark(id, lane, score)
    heads[lane] = { id, priority, string.format('%s %.17g', lane, score) }
    new_heads[lane] = id
  end
end

for i = 2, 1 + FRESH * fresh, FRESH do
  place(now, ARGV[i], tonumber(ARGV[i + 2]), ARGV[i + 3])
  payloads[#payloads + 1], payloads[#payloads + 2] = JOB .. ARGV[i], ARGV[i + 1]
end

for i = 2 + FRESH * fresh, #ARGV, STRIDE do
  local id, delay, at, expires = ARGV[i], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4]
  local key = JOB .. id
  if added[id] or redis.call('EXISTS', key, LEASE .. id, RESULT .. id) > 0 then
    reply[#reply + 1] = 0
  else
    local due = at > 0 and at or now + tonumber(delay)
    -- A new earliest job shortens the sleep of the worker that waits for the next due one.
    awake = awake or due <= now or redis.call('ZCOUNT', queue, '-inf', '(' .. due) == 0
    place(due, id, tonumber(ARGV[i + 5]), ARGV[i + 6])
    if expires == '0' then
      payloads[#payloads + 1], payloads[#payloads + 2] = key, ARGV[i + 1]
      old[#old + 1] = RETRY .. id
    else
      expiring[#expiring + 1] = i
    end
    added[id] = true
    old[#old + 1], old[#old + 2], old[#old + 3] = AWAITED .. id, PROGRESS .. id, STREAM .. id
    old[#old + 1] = ATTEMPTS .. id
    wishes[#wishes + 1] = id
    reply[#reply + 1] = 1
  end
end

-- What is written first needs memory, and is all that can be of another type.
if #places > 0 then redis.call('ZADD', queue, unpack(places)) end
if #laned > 0 then redis.call('HSET', LANED .. queue, unpack(laned)) end
if #payloads > 0 then redis.call('MSET', unpack(payloads)) end
for _, i in ipairs(expiring) do
  redis.call('SET', JOB .. ARGV[i], ARGV[i + 1], 'PX', ARGV[i + 4])
  redis.call('SET', RETRY .. ARGV[i], 0)
end
if #later > 0 then redis.pcall('ZADD', LIFT .. queue, unpack(later)) end
if #marks > 0 then redis.call('HSET', FAIR .. queue, unpack(marks)) end
for lane, members in pairs(joining) do redis.call('ZADD', LANE .. queue .. ':' .. lane, unpack(members)) end
for lane, head in pairs(new_heads) do redis.call('HSET', LANES .. queue, lane, head) end
if #stepping_back > 0 then
  local lanes = lanes_of(queue, now)
  for _, head in ipairs(stepping_back) do
    behind[head[1]] = true
    lanes.divert(head[1], head[3])
  end
end
if #old > 0 then
  redis.call('DEL', unpack(old))
  redis.pcall('ZREM', ABORT, unpack(wishes))
  for _, id in ipairs(wishes) do
    if not behind[id] then redis.pcall('HDEL', LANED .. queue, id) end -- of a job before, whose payload expired
  end
end
if awake then wake(queue) end
return reply
