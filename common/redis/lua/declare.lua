-- declare: say which schedules the code of this worker declares, and put the newest declaration of each in force.
--
-- KEYS: 1 schedules, 2 their next ticks, 3 their last runs, 4 their declarations, 5 their revision, 6 paused ones
-- ARGV: 1 ms a declaration is believed, 2 ms after which a schedule nobody declares is forgotten;
--       then for each schedule: name, digest of its record, record, first tick after now (-1 if none)
-- Returns: for each schedule a word: "current" (this declaration is in force), "older" (a newer one is), "taken" (one
--          of this name was added by hand, and is left alone)
-- Invariant: of the declarations that live workers have, the one first seen last is in force: a worker of the version
--            before that restarts in the middle of a deploy changes nothing, and when the last one of the newer version
--            is gone, as after a rollback, the older one is back. A next tick that was missed is kept.

local SCHEDULES, NEXT, LAST, DECLARED, REVISION, PAUSED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local believed, forgotten = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = now_ms()
local changed = false
local reply = {}

-- Returns the declarations seen within so many ms, as a list of { digest, first, last }, and when the latest was.
local function seen_within(name, ms)
  local found, latest = {}, 0
  for what, first, last in string.gmatch(redis.call('HGET', DECLARED, name) or '', '(%x+):(%d+):(%d+)') do
    latest = math.max(latest, tonumber(last))
    if tonumber(last) + ms >= now then found[#found + 1] = { what, tonumber(first), tonumber(last) } end
  end
  return found, latest
end

-- Take note of a declaration and return which one is in force.
local function note(name, what, live)
  local newest, own
  for _, one in ipairs(live) do
    if one[1] == what then own = one end
  end
  if own then own[3] = now else live[#live + 1] = { what, now, now } end
  local parts = {}
  for i, one in ipairs(live) do
    parts[i] = string.format('%s:%.0f:%.0f', one[1], one[2], one[3])
    if not newest or one[2] > newest[2] or (one[2] == newest[2] and one[1] > newest[1]) then newest = one end
  end
  redis.call('HSET', DECLARED, name, table.concat(parts, ' '))
  return newest[1]
end

local function declare(name, what, record, first)
  local stored = redis.call('HGET', SCHEDULES, name)
  if stored and redis.call('HEXISTS', DECLARED, name) == 0 then return 'taken' end
  local live = seen_within(name, believed)
  changed = changed or #live == 0
  if note(name, what, live) ~= what then return 'older' end
  local next_tick = redis.call('ZSCORE', NEXT, name)
  if stored ~= record then
    redis.call('HSET', SCHEDULES, name, record)
    changed = true
    if next_tick and tonumber(next_tick) > now then next_tick = false end
  end
  if not next_tick then
    if first == '-1' or redis.call('ZSCORE', PAUSED, name) then
      redis.call('ZREM', NEXT, name)
    else
      redis.call('ZADD', NEXT, first, name)
      changed = true
    end
  end
  return 'current'
end

for i = 3, #ARGV, 4 do reply[#reply + 1] = declare(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) end
for _, name in ipairs(redis.call('HKEYS', DECLARED)) do
  local _, latest = seen_within(name, 0)
  if latest + forgotten < now then
    redis.call('HDEL', SCHEDULES, name)
    redis.call('HDEL', LAST, name)
    redis.call('HDEL', DECLARED, name)
    redis.call('ZREM', NEXT, name)
    redis.call('ZREM', PAUSED, name)
    changed = true
  end
end
if changed then
  redis.call('SET', REVISION, math.max(now, (tonumber(redis.call('GET', REVISION)) or 0) + 1))
  redis.pcall('PUBLISH', CONTROL, 'schedules')
end
return reply
