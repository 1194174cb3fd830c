-- admit: let attempts that were just claimed begin, as far as their limits allow; put the others where they wait.
--
-- KEYS: queues, in the order the worker names them
-- ARGV: 1 lease ms, 2 most ms that a worker waits by itself, 3 ms that a job comes before its time, 4 number of gates,
--       5 "1" where it is to be known for how long jobs were held back, else "";
--       then for each gate eleven: id, kind ("rate", "concurrency", "breaker", "door"), name, key, keep ms while in
--       use, a to f (rate: a ms per unit, b burst; concurrency: a limit; breaker: a trials, b open for ms, c open at
--       most ms, d threshold, e minimum, f window ms);
--       then for each attempt: id, token, index of its queue from 0, attempt (0: the first one of a job that has a
--       history, see claim.lua), due at (Unix ms), how it came to be due
--       (a word of scores.py's), priority, number of its gates; and for each of those two: index from 0, cost
-- Returns: for each attempt a word: "start", with the ms to wait before (text) and when it was due, and of one that was
--          held back, as far as that is known, since when (Unix ms) and the gate it waited for last; "held", with the
--          index of the gate it waits for; "lost", its lease is another's, or it waits already; "aborted", somebody
--          asked for its end. Then the events: index of the gate, word
-- Invariant: an attempt begins with all its gates' leave or with none's. One that does not is back in its queue, its
--            lease given up, not counted, in the same step. No gate has more inside than it may, and no rate's starts
--            are nearer to each other than its interval.
--
-- Sent again after a lost reply, it finds the leases of those it put back gone ("lost": they wait), and the places of
-- the others taken by themselves. A rate's time is then given twice, and one of the two is not used.

local wait, lead, count, watched = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
lease = tonumber(ARGV[1])
for i = 1, count do gates[i] = read_gate(6 + (i - 1) * GATE, i) end

local jobs, leases, ids, marks, waited = {}, {}, {}, {}, {}
local at = 6 + count * GATE
while at <= #ARGV do
  local job = { id = ARGV[at], token = ARGV[at + 1], queue = KEYS[tonumber(ARGV[at + 2]) + 1] }
  job.attempt, job.due, job.past = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), ARGV[at + 5]
  job.priority = tonumber(ARGV[at + 6])
  job.member, job.lanes, job.rates = member_of(job.queue, job.id), {}, {}
  local last = at + 7 + 2 * tonumber(ARGV[at + 7])
  for i = at + 8, last, 2 do
    local gate = gates[tonumber(ARGV[i]) + 1]
    if gate.lanes then
      job.lanes[#job.lanes + 1] = gate
    else
      job.rates[#job.rates + 1] = { gate = gate, cost = tonumber(ARGV[i + 1]) }
    end
  end
  jobs[#jobs + 1] = job
  if watched and (job.past == 'parked' or job.past == 'reserved' or job.past == 'displaced') then
    waited[#waited + 1] = job
  end
  ids[#ids + 1], leases[#leases + 1], marks[#marks + 1] = job.id, LEASE .. job.id, LIMIT_WAIT .. job.id
  at = last + 1
end
local holders = redis.call('MGET', unpack(leases))
local aborts = redis.call('EXISTS', ABORT) == 1 and redis.pcall('ZMSCORE', ABORT, unpack(ids))
for _, job in ipairs(waited) do
  local mark = redis.pcall('GET', LIMIT_WAIT .. job.id)
  if type(mark) == 'string' then job.waited_for, job.since = string.match(mark, '^(%S+) (%d+)$') end
end
redis.call('DEL', unpack(marks)) -- a write that needs no memory (see the prelude)

local function put_back(job, score, gate)
  redis.call('DEL', LEASE .. job.id)
  if job.attempt > 1 then
    redis.call('SET', RETRY .. job.id, job.attempt - 1)
  elseif job.attempt == 0 or redis.call('PTTL', JOB .. job.id) >= 0 then
    redis.call('SET', RETRY .. job.id, 0) -- one that expires stays known of (see enqueue.lua)
  else
    redis.call('DEL', RETRY .. job.id)
  end
  move(job.queue, job.id, score)
  local mark = watched and gate.id .. ' ' .. (job.since or decimal(math.floor(now))) or gate.id
  redis.call('SET', LIMIT_WAIT .. job.id, mark, 'PX', decimal(math.max(0, tonumber(score) - now) + SPOKEN_FOR))
end

-- Since when the job stands in a lane, if it does; else when it was due.
local function due_of(job)
  if job.past ~= 'parked' then return job.due end
  for _, gate in ipairs(job.lanes) do
    local rank = redis.call('ZSCORE', gate.lane, job.member)
    if rank then return due_of_rank(tonumber(rank)) end
  end
  return job.due
end

local function leave_all(job, except)
  for _, gate in ipairs(job.lanes) do
    if gate ~= except then
      if gate.count > 0 then let_out(gate, job.id) end
      if gate.waiting > 0 then out_of_lane(gate, job.member) end
    end
  end
end

local function park(job, gate)
  leave_all(job, gate)
  gate.waiting = gate.waiting + redis.call('ZADD', gate.lane, 'NX', string.format('%.17g', job.rank), job.member)
  put_back(job, scored(now + (gate.shut and FAR_SHUT or FAR) + gate.waiting, PARKED), gate)
end

-- When the job may start by this rate: of those without a reservation, behind all who have one; of those whose
-- reservation came due, behind those that were put off before. No start is before the gate's floor.
local function line_of(job, rate)
  local gate = rate.gate
  local slack = math.max(0, gate.b - rate.cost) * gate.a
  local earliest = math.max(now, gate.floor - slack)
  if rate.cost == 0 then return now end
  if job.past == 'displaced' then return earliest end
  if job.past == 'reserved' or job.past == 'parked' then
    return gate.next > now + wait and math.max(earliest, gate.next) or earliest
  end
  return math.max(earliest, gate.next, gate.tat - slack)
end

-- Take a time of each rate. Returns it if the worker can wait for it; else nil, the gate, and when to come again.
local function pass_rates(job)
  local start, slowest = now, nil
  for _, rate in ipairs(job.rates) do
    rate.line = line_of(job, rate)
    if rate.line > start then start, slowest = rate.line, rate.gate end
  end
  local reserved = job.past == 'reserved' or job.past == 'displaced' or job.past == 'parked'
  if start <= now + wait then
    for _, rate in ipairs(job.rates) do
      local gate, step = rate.gate, rate.cost * rate.gate.a
      gate.floor = math.max(gate.floor, start) + step
      if not reserved then gate.tat = math.max(gate.tat, start) + step end
    end
    return start
  end
  local slot = now
  for _, rate in ipairs(job.rates) do
    local gate, step = rate.gate, rate.cost * rate.gate.a
    if reserved and rate.line > now + wait then
      rate.line = math.max(rate.line, gate.next)
      gate.next = rate.line + step
    elseif not reserved and rate.line > now then
      gate.tat = math.max(gate.tat, rate.line) + step
    end
    slot = math.max(slot, rate.line)
  end
  return nil, slowest, math.min(slot - lead, now + FARTHEST), reserved
end

local function admit(job)
  job.due = due_of(job)
  job.rank = rank_of(job.due, job.priority)
  for _, gate in ipairs(job.lanes) do
    if not room_for(gate, job.id, job.member, job.rank) then
      park(job, gate)
      return { 'held', gate.index - 1 }
    end
  end
  local start, slowest, due, again = pass_rates(job)
  if not start then
    leave_all(job)
    put_back(job, scored(due, again and DISPLACED or RESERVED), slowest)
    redis.pcall('ZADD', LIFT .. job.queue, scored(due, again and DISPLACED_UP or RESERVED_UP), job.id)
    return { 'held', slowest.index - 1 }
  end
  for _, gate in ipairs(job.lanes) do
    if capacity(gate) < math.huge then hold(gate, job.id) end
    if gate.waiting > 0 then out_of_lane(gate, job.member) end
  end
  return { 'start', string.format('%.3f', start - now), math.floor(job.due), job.since, job.waited_for }
end

local reply = {}
for i, job in ipairs(jobs) do
  if holders[i] ~= job.token then
    reply[i] = { 'lost' }
  elseif aborts and aborts[i] and string.sub(aborts[i], -#MEANT) == MEANT then
    reply[i] = { 'aborted' }
  else
    reply[i] = admit(job)
  end
end
close_gates()
return { reply, events }
