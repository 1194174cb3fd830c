-- leave: give back the places of attempts that have ended, to those who wait for them; tell breakers how they ended.
--
-- KEYS: none; queues are named in the lanes
-- ARGV: 1 lease ms, 2 number of gates; then for each gate eleven, as for admit; then for each that leaves five: index
--       of its gate from 0, id, token, word, ms. Words: "" for nothing more; of a breaker "ok" and "bad", how the
--       attempt ended; of a rate "hold", nobody starts before so many ms; by hand, without an id: "reset", as if the
--       gate had just been made, but for those inside
-- Returns: the events: index of the gate, word; of "opened", attempts and failures that were counted, and ms it is open
-- Invariant: a place that comes free is the first one's of the lane in the same step. That one has its old place in
--            the queue, and nobody who comes later is let in before it.
--
-- An attempt may have been claimed again before this comes (a retry that was due at once): then its lease is not the
-- one named, and the place stays the new attempt's. How the old one ended counts all the same: a failed trial is one. A batch that is sent again counts twice in a breaker's window.

lease = tonumber(ARGV[1])
local count = tonumber(ARGV[2])
for i = 1, count do gates[i] = read_gate(3 + (i - 1) * GATE, i) end
redis.call('DEL', LIMIT_WAIT) -- a write that needs no memory (see the prelude)

local COUNTERS = { 'ok', 'bad', 'ok0', 'bad0' }

local function forget_counts(gate)
  for _, name in ipairs(COUNTERS) do gate[name] = 0 end
end

-- Move the window on: two halves, so that between half of it and all of it counts.
local function roll(gate)
  local number = math.floor(now / (gate.f / 2))
  if number == gate.w then return end
  local follows = number == gate.w + 1
  gate.ok0, gate.bad0 = follows and gate.ok or 0, follows and gate.bad or 0
  gate.ok, gate.bad, gate.w = 0, 0, number
end

local function open(gate, calls, failures)
  gate.times = math.min(gate.times + 1, 60)
  local length = math.min(gate.b * 2 ^ (gate.times - 1), gate.c)
  gate.state, gate.till, gate.count = 'open', now + length, 0
  redis.call('DEL', gate.held)
  forget_counts(gate)
  tell(gate, 'opened', calls, failures, math.floor(length))
end

local function close(gate, word)
  if gate.state ~= 'closed' then tell(gate, word) end
  gate.state, gate.times, gate.passed, gate.count = 'closed', 0, 0, 0
  redis.call('DEL', gate.held)
  forget_counts(gate)
end

local function judge(gate, id, word)
  if gate.state == 'half' then
    if not let_out(gate, id) then return end -- it began before the breaker opened
    if word == 'bad' then
      open(gate, 1, 1)
    elseif word == 'ok' then
      gate.passed = gate.passed + 1
      if gate.passed >= gate.a then close(gate, 'closed') end
    end
  elseif gate.state == 'closed' and word ~= '' then
    roll(gate)
    gate[word] = gate[word] + 1
    local failures = gate.bad + gate.bad0
    local calls = failures + gate.ok + gate.ok0
    if word == 'bad' and calls >= gate.e and failures / calls >= gate.d then open(gate, calls, failures) end
  end
end

local function reset(gate)
  if gate.kind == 'rate' then
    gate.tat, gate.next, gate.floor = 0, 0, 0
  elseif gate.kind == 'breaker' then
    close(gate, 'reset')
  else
    revalidate(gate)
  end
end

for at = 3 + count * GATE, #ARGV, 5 do
  local gate, id, token = gates[tonumber(ARGV[at]) + 1], ARGV[at + 1], ARGV[at + 2]
  local word, ms = ARGV[at + 3], tonumber(ARGV[at + 4])
  if word == 'reset' then
    reset(gate)
  elseif gate.kind == 'rate' then
    if word == 'hold' then
      local until_then = now + ms + gate.b * gate.a
      gate.floor, gate.tat = math.max(gate.floor, until_then), math.max(gate.tat, until_then)
    end
  else
    local holder = redis.call('GET', LEASE .. id)
    local ours = not holder or holder == token
    if gate.kind == 'breaker' then
      if ours or word ~= '' then judge(gate, id, word) end
    elseif ours then
      let_out(gate, id)
    end
  end
end
close_gates()
return events
