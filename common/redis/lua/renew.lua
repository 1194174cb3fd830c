-- renew: extend the leases of running attempts, and say which are lost and which are to be aborted.
--
-- KEYS: queues, in the order the worker names them
-- ARGV: 1 lease ms; then for each attempt three: index of its queue from 0, id, token
-- Returns: two arrays: indexes from 0 of attempts whose lease is lost; indexes of attempts to abort, each with the time
--          of the wish (see abort.lua)
-- Invariant: a lease that is another's is left alone.

local STRIDE = 3
local lease = tonumber(ARGV[1])
local count = (#ARGV - 1) / STRIDE
local lease_ms, lease_end = decimal(lease), lapse(now_ms(), lease)
local leases, ids = {}, {}
for i = 1, count do
  ids[i] = ARGV[1 + (i - 1) * STRIDE + 2]
  leases[i] = LEASE .. ids[i]
end
local holders = redis.call('MGET', unpack(leases))
local aborts = redis.call('EXISTS', ABORT) == 1 and redis.pcall('ZMSCORE', ABORT, unpack(ids))
local lost, aborted, places = {}, {}, {}
for i = 1, count do
  local at = 1 + (i - 1) * STRIDE
  if holders[i] == ARGV[at + 3] then
    redis.call('PEXPIRE', leases[i], lease_ms)
    local queue = KEYS[tonumber(ARGV[at + 1]) + 1]
    places[queue] = places[queue] or {}
    table.insert(places[queue], lease_end)
    table.insert(places[queue], ids[i])
    if aborts and aborts[i] then aborted[#aborted + 1], aborted[#aborted + 2] = i - 1, aborts[i] end
  else
    lost[#lost + 1] = i - 1
  end
end
for queue, members in pairs(places) do redis.call('ZADD', queue, 'XX', unpack(members)) end
return { lost, aborted }
