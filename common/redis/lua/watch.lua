-- watch: have what jobs say of themselves pushed for a time, and return how far they are.
--
-- KEYS: none
-- ARGV: 1 channel to push to, 2 for ms; then job ids
-- Returns: for each id its progress, nil if it has told of none
-- Invariant: looking and registering are one step, so what is told in between is not missed. Who does not ask again in
--            time is told no more, and a list nobody renews goes by itself.

local MOST_CHANNELS = 64 -- for one job; whoever is pushed off the list sees it when asking again
local channel, keep = ARGV[1], ARGV[2]
local now = now_ms()
local mine = channel .. ' ' .. decimal(now + tonumber(keep))
local reply = {}

for i = 3, #ARGV do
  local key = WATCHERS .. ARGV[i]
  local others = {}
  local known = redis.pcall('GET', key)
  if type(known) == 'string' then
    for other, until_ms in string.gmatch(known, '(%S+) (%d+)') do
      if other ~= channel and tonumber(until_ms) > now then others[#others + 1] = other .. ' ' .. until_ms end
    end
  end
  while #others >= MOST_CHANNELS do table.remove(others, 1) end
  others[#others + 1] = mine
  redis.call('SET', key, table.concat(others, ' '), 'PX', keep)
  local progress = redis.pcall('GET', PROGRESS .. ARGV[i])
  reply[i - 2] = type(progress) == 'string' and progress
end
return reply
