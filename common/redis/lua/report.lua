-- report: take what running jobs say of themselves, each only if its lease is still this attempt's.
--
-- KEYS: none
-- ARGV: for each job five: id, token, keep for ms (-1 = for ever), progress ('' = as it was), number of items; then
--       for each item two: its number, the item
-- Returns: for each job 1 (taken), or 0 (its lease was lost)
-- Invariant: a batch sent twice leaves what it leaves sent once: an item is in the stream once, in order. The items of
--            one stream are of one run: the first item of another run takes the place of all there were.
--
-- A stream begins with an entry `<run>-0` that names the run's token, the items follow as `<run>-<number>`. Another
-- token begins another run, which has a greater number than any before: a reader that asks for what comes after its
-- last id is given the new run from its start. The same token goes on where it was, and what is there is left out.
--
-- The first write needs no memory (see the prelude): as outcomes, what running jobs say gets through on a full server.

local HEAD, STRIDE = 5, 2
local LATEST = 9007199254740991 -- a number past it is none of ours
local jobs, leases, watched = {}, {}, {}
do
  local at = 1
  while at <= #ARGV do
    jobs[#jobs + 1] = at
    leases[#leases + 1], watched[#watched + 1] = LEASE .. ARGV[at], WATCHERS .. ARGV[at]
    at = at + HEAD + STRIDE * tonumber(ARGV[at + 4])
  end
end
local now = now_ms()
local holders, channels = redis.call('MGET', unpack(leases)), redis.call('MGET', unpack(watched))
local reply, frames, pokes = {}, {}, 2147483648
local written = false

local function set_ttl(key, keep)
  if keep == '-1' then return redis.call('PERSIST', key) end
  return redis.call('PEXPIRE', key, keep)
end

local function set(key, value, keep)
  if keep == '-1' then return redis.call('SET', key, value) end
  return redis.call('SET', key, value, 'PX', keep)
end

-- Return the run of this token and the number of its last item; begin it if it is another's, or nobody's, so far.
local function run_of(key, token)
  local last_run = 0
  local first = redis.pcall('XRANGE', key, '-', '+', 'COUNT', 1)
  if not first.err and first[1] then
    last_run = tonumber(string.match(first[1][1], '^(%d+)-')) or 0
    if last_run > LATEST then last_run = 0 end
    if first[1][2][1] == 'run' and first[1][2][2] == token then
      local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1][1]
      return decimal(last_run), tonumber(string.match(last, '-(%d+)$'))
    end
  end
  local run = decimal(math.max(now, last_run + 1))
  if first.err or first[1] then redis.call('UNLINK', key) end -- a key of another type, or an older run
  redis.call('XADD', key, run .. '-0', 'run', token)
  return run, 0
end

local function tell(id, channels, body)
  for channel, until_ms in string.gmatch(channels, '(%S+) (%d+)') do
    if tonumber(until_ms) > now then
      frames[channel] = frames[channel] or {}
      table.insert(frames[channel], u32(#id + pokes) .. u32(#body) .. id .. body)
    end
  end
end

for n, at in ipairs(jobs) do
  local id, token, keep, progress = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local items = tonumber(ARGV[at + 4])
  reply[n] = 0
  if holders[n] == token then
    reply[n] = 1
    local key = STREAM .. id
    if items == 0 or not written then set_ttl(key, keep) end
    written = true
    if progress ~= '' then set(PROGRESS .. id, progress, keep) else set_ttl(PROGRESS .. id, keep) end
    if items > 0 then
      local run, last = run_of(key, token)
      for i = at + HEAD, at + HEAD + STRIDE * items - 1, STRIDE do
        if tonumber(ARGV[i]) > last then redis.call('XADD', key, run .. '-' .. ARGV[i], 'item', ARGV[i + 1]) end
      end
      set_ttl(key, keep)
    end
    if channels[n] and progress ~= '' then tell(id, channels[n], progress) end
    if channels[n] and items > 0 then tell(id, channels[n], '') end
  end
end
for channel, parts in pairs(frames) do redis.pcall('PUBLISH', channel, table.concat(parts)) end
return reply
