-- gates_prelude: what admit and leave share, between the prelude and the script; no script by itself.
--
-- A gate is one limit for one key. Two kinds: a rate, which has times to give; and those that have places, and a lane
-- of parked jobs in front of them (a concurrency limit, a circuit breaker, the door of a paused task).
--
--   hash  LIMIT + id         name, key, kind, spec; a rate's  tat, next, floor: times in ms, with their fractions:
--                            up to where times are reserved; up to where reservations that came too late to be kept
--                            are put off; and the earliest next start. Only the last one is the limit, the others
--                            are there so that jobs come about when they can start. A breaker's  state, till, times
--                            (it opened, one after the other), passed (trials), w, ok, bad, ok0, bad0: attempts in
--                            this half of the window, whose number is w, and in the one before. A door has none: it is shut as long
--                            as its task is among the paused ones
--   zset  LIMIT_HELD + id    job id -> until when its place is valid without looking: as long as its lease is
--   zset  LIMIT_LANE + id    queue's length:queue and job id -> its rank: when it was due, less its head start
--
-- A job that waits for a gate stays in its queue. Its score has a fraction that says so (scores.py): RESERVED, it has a
-- time, which the score is; DISPLACED, its time came and could not be kept; PARKED, it is in a lane, and its score is far
-- away, for when all else fails. Only the first of a lane has a near one: when to look again whether a place has come
-- free though nobody said so. A job in a lane whose score says otherwise was moved by somebody else, and is not called
-- up.
--
-- Whose time has come (claim.lua sees to that), or who was called up, stands hours before its due time, as jobs of a
-- priority do, and has another fraction: what has waited for longer and has never asked would stand before it, and a
-- large backlog, while it is gone through, keep everybody from starting.

local GATE = 11 -- values of a gate: id, kind, name, key, keep ms, a, b, c, d, e, f
local RESERVED, DISPLACED, PARKED = 2047 / 2048, 2046 / 2048, 2045 / 2048
local RESERVED_UP, DISPLACED_UP = 2044 / 2048, 2043 / 2048
local FAR, LOOK_AGAIN = 600000, 1000
local FAR_SHUT = 86400000 -- of a paused task: nobody is about to make room, and who resumes it calls up all
local RAMP, RAMP_PAUSE = 100, 100 -- jobs that an opened gate lets go in one step, and ms until the next one
local MOST_STALE, MOST_CHECKED, MOST_IN_HAND = 1000, 1000, 20
local IDLE = 60000 -- for how long a gate that nobody uses is kept, to be looked at
local SPOKEN_FOR = 60000 -- for how long past its time it is known what a job waited for
local HEAD_START, MOST_AHEAD = 3600000, 12
local FARTHEST = 30 * 86400000

local gates, events, woken = {}, {}, {}
local paused, any_paused = {}, nil
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local lease

local function scored(ms, code)
  return string.format('%.17g', math.floor(ms) + code)
end

local function code_of(score)
  local number = tonumber(score)
  return number - math.floor(number)
end

local function number_of(stored)
  return tonumber(stored or 0) or 0
end

-- Where a job stands in a lane: by when it was due, and before that by the head start of its priority. A fraction keeps
-- the priority, so that the due time can be told again.
local function rank_of(due, priority)
  return math.floor(due - priority * HEAD_START) + priority / 16
end

local function due_of_rank(rank)
  local whole = math.floor(rank)
  return whole + (rank - whole) * 16 * HEAD_START
end

local function member_of(queue, id)
  return #queue .. ':' .. queue .. id
end

local function parts_of(member)
  local length, at = string.match(member, '^(%d+):()')
  length = tonumber(length)
  return string.sub(member, at, at + length - 1), string.sub(member, at + length)
end

local function tell(gate, word, ...)
  events[#events + 1] = { gate.index - 1, word, ... }
end

-- Read a gate; nothing is written before all are read.
local function read_gate(at, index)
  local id = ARGV[at]
  local gate = { index = index, id = id, kind = ARGV[at + 1], name = ARGV[at + 2], key = ARGV[at + 3] }
  gate.keep = ARGV[at + 4]
  gate.a, gate.b, gate.c = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
  gate.d, gate.e, gate.f = tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9]), tonumber(ARGV[at + 10])
  gate.spec = table.concat({ unpack(ARGV, at + 4, at + 10) }, ' ')
  gate.hash, gate.held, gate.lane = LIMIT .. id, LIMIT_HELD .. id, LIMIT_LANE .. id
  if gate.kind == 'rate' then
    local found = redis.call('HMGET', gate.hash, 'tat', 'next', 'floor')
    gate.tat, gate.next, gate.floor = number_of(found[1]), number_of(found[2]), number_of(found[3])
    return gate
  end
  gate.lanes = true
  gate.count, gate.waiting = redis.call('ZCARD', gate.held), redis.call('ZCARD', gate.lane)
  if gate.kind == 'breaker' then
    local found = redis.call('HMGET', gate.hash, 'state', 'till', 'times', 'passed', 'w', 'ok', 'bad', 'ok0', 'bad0')
    gate.state = found[1] or 'closed'
    for i, name in ipairs({ 'till', 'times', 'passed', 'w', 'ok', 'bad', 'ok0', 'bad0' }) do
      gate[name] = number_of(found[i + 1])
    end
  elseif gate.kind == 'door' then
    gate.shut = redis.pcall('HEXISTS', PAUSED, 'task:' .. gate.name) == 1
  end
  return gate
end

-- How many may be inside.
local function capacity(gate)
  if gate.kind == 'concurrency' then return gate.a end
  if gate.kind == 'door' then return gate.shut and 0 or math.huge end
  if gate.state == 'open' and now >= gate.till then
    gate.state, gate.passed = 'half', 0
    tell(gate, 'half_open')
  end
  if gate.state == 'closed' then return math.huge end
  return gate.state == 'half' and gate.a - gate.passed or 0
end

-- Look at the leases of those whose places nobody has looked at for as long as a lease; once a script.
local function revalidate(gate)
  if gate.checked then return end
  gate.checked = true
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', gate.held, '-inf', now, 'LIMIT', 0, MOST_CHECKED)) do
    local left = redis.call('PTTL', LEASE .. id)
    if left == -2 then
      redis.call('ZREM', gate.held, id)
      gate.count = gate.count - 1
    else
      redis.call('ZADD', gate.held, decimal(now + math.max(left, LOOK_AGAIN) + 1), id)
    end
  end
end

local function free_of(gate)
  local most = capacity(gate)
  if gate.count >= most then revalidate(gate) end
  return most - gate.count
end

local function hold(gate, id)
  gate.count = gate.count + redis.call('ZADD', gate.held, decimal(now + lease + 1), id)
end

local function let_out(gate, id)
  local out = redis.call('ZREM', gate.held, id)
  gate.count = gate.count - out
  return out == 1
end

local function out_of_lane(gate, member)
  gate.waiting = gate.waiting - redis.call('ZREM', gate.lane, member)
end

-- Whether nothing of a queue is claimed.
local function is_paused(queue)
  if paused[queue] == nil then
    if any_paused == nil then any_paused = redis.call('EXISTS', PAUSED) == 1 end
    paused[queue] = any_paused and redis.pcall('HEXISTS', PAUSED, 'queue:' .. queue) == 1
  end
  return paused[queue]
end

-- Make a job of a lane due, and the next to be claimed: a place is kept for it. Returns its id; nil if it is not there any more, or was moved.
-- One whose queue is paused is due in it, and without a place: it asks anew, and keeps nobody of other queues waiting.
-- The queue may be one that this worker has no rights on: then the far score has to do.
local function call_up(member, rank)
  local queue, id = parts_of(member)
  local score = redis.pcall('ZSCORE', queue, id)
  if not score or type(score) == 'table' then return nil end
  if code_of(score) == PARKED then
    local place = math.max(1, due_of_rank(rank) - MOST_AHEAD * HEAD_START)
    redis.pcall('ZADD', queue, 'XX', scored(place, RESERVED_UP), id)
    woken[queue] = true
    return not is_paused(queue) and id or nil
  end
  if redis.call('EXISTS', LEASE .. id) == 1 then return id end -- in a worker's hands, which is about to ask
  return nil
end

-- Give free places to those of the lane who stand before this job (with no job: to all). Says whether there is a
-- place for the job itself, then.
local function room_for(gate, id, member, rank)
  local free = free_of(gate)
  if free == math.huge then return true end
  if id and redis.call('ZSCORE', gate.held, id) then return true end
  local stale = 0
  while free > 0 and stale < MOST_STALE do
    local head = redis.call('ZRANGE', gate.lane, 0, 0, 'WITHSCORES')
    local first, its_rank = head[1], tonumber(head[2])
    if not first or first == member or rank < its_rank or (rank == its_rank and member and member < first) then
      return true
    end
    out_of_lane(gate, first)
    local called = call_up(first, its_rank)
    if called then
      hold(gate, called)
      free = free - 1
    else
      stale = stale + 1
    end
  end
  return false
end

-- Of a gate that holds nobody back any more: let its lane go, a step at a time.
local function let_go(gate)
  local heads = redis.call('ZPOPMIN', gate.lane, RAMP)
  gate.waiting = gate.waiting - #heads / 2
  for i = 1, #heads, 2 do call_up(heads[i], tonumber(heads[i + 1])) end
end

-- When the first of a lane is to look whether it may go.
local function next_look(gate)
  local free = free_of(gate)
  if free > 0 then return now + RAMP_PAUSE end
  if gate.kind == 'door' then return nil end
  if gate.state == 'open' then return gate.till end
  local first = redis.call('ZRANGE', gate.held, 0, 0, 'WITHSCORES')[2]
  return math.max(now + LOOK_AGAIN, number_of(first) + 1)
end

local function move(queue, id, score)
  local due = tonumber(score)
  if due <= now or redis.call('ZCOUNT', queue, '-inf', '(' .. score) == 0 then woken[queue] = true end
  redis.call('ZADD', queue, score, id)
end

-- See to it that the first of a lane who is not in a worker's hands comes by itself, when it is time to look.
local function wind_up_head(gate)
  local look = next_look(gate)
  if not look then return end
  local in_hand = 0
  for _ = 1, MOST_STALE do
    local first, rank = unpack(redis.call('ZRANGE', gate.lane, in_hand, in_hand, 'WITHSCORES'))
    if not first then return end
    local queue, id = parts_of(first)
    local score = redis.pcall('ZSCORE', queue, id)
    if score and type(score) ~= 'table' then
      if code_of(score) == PARKED and not is_paused(queue) then
        if tonumber(score) > look + 1 then move(queue, id, scored(look, PARKED)) end
        return
      end
    end
    if score and type(score) ~= 'table' and is_paused(queue) and code_of(score) == PARKED then
      out_of_lane(gate, first)
      call_up(first, tonumber(rank))
    elseif score and in_hand < MOST_IN_HAND and redis.call('EXISTS', LEASE .. id) == 1 then
      in_hand = in_hand + 1
    else
      out_of_lane(gate, first)
    end
  end
end

local function keep_rate(gate)
  local last = math.max(gate.tat, gate.next, gate.floor)
  local tat, next, floor = string.format('%.6f', gate.tat), string.format('%.6f', gate.next), string.format('%.6f', gate.floor)
  redis.call('HSET', gate.hash, 'name', gate.name, 'key', gate.key, 'kind', gate.kind, 'spec', gate.spec,
    'tat', tat, 'next', next, 'floor', floor)
  return math.max(0, last - now) + IDLE
end

local function keep_lane(gate)
  local busy = gate.count > 0 or gate.waiting > 0
  redis.call('HSET', gate.hash, 'name', gate.name, 'key', gate.key, 'kind', gate.kind, 'spec', gate.spec)
  if gate.kind == 'breaker' then
    local values = { 'state', gate.state }
    for _, name in ipairs({ 'till', 'times', 'passed', 'w', 'ok', 'bad', 'ok0', 'bad0' }) do
      values[#values + 1], values[#values + 2] = name, decimal(gate[name])
    end
    redis.call('HSET', gate.hash, unpack(values))
  end
  if gate.count > 0 then redis.call('PEXPIRE', gate.held, gate.keep) end
  if gate.waiting > 0 then redis.call('PEXPIRE', gate.lane, gate.keep) end
  if busy then return tonumber(gate.keep) end
  if gate.kind == 'breaker' then return math.max(gate.f, gate.till - now) + IDLE end
  return IDLE
end

-- Let those go who can, see to it that the first of each lane comes by itself, and have all keys expire.
local function close_gates()
  local latest = 0
  for _, gate in ipairs(gates) do
    local keep
    if gate.lanes then
      if gate.waiting > 0 then
        if room_for(gate, nil, nil, math.huge) and capacity(gate) == math.huge then let_go(gate) end
        if gate.waiting > 0 then wind_up_head(gate) end
      end
      keep = keep_lane(gate)
    else
      keep = keep_rate(gate)
    end
    keep = math.ceil(math.min(keep, FARTHEST + IDLE))
    redis.call('PEXPIRE', gate.hash, decimal(keep))
    redis.call('ZADD', LIMITS, decimal(now + keep), gate.id)
    latest = math.max(latest, keep)
  end
  if latest > 0 then
    local old = redis.call('ZRANGEBYSCORE', LIMITS, '-inf', decimal(now), 'LIMIT', 0, MOST_STALE)
    if #old > 0 then redis.call('ZREM', LIMITS, unpack(old)) end
    if redis.call('PTTL', LIMITS) < latest then redis.call('PEXPIRE', LIMITS, decimal(latest)) end
  end
  for queue in pairs(woken) do wake(queue) end
end
