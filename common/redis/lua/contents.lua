-- contents: read what stands under some keys, as far as it is not too much.
--
-- KEYS: none
-- ARGV: 1 most bytes of one value, 2 most bytes of all, 3 field to read of hashes ("" = they are strings); then names
--       of keys
-- Returns: for each key, as far as there was room for its value, and for the first in any case: the value; its length
--          if that is too much; -1 if it is of another type; nil if there is none
-- Invariant: nothing is written, and no more is copied than was said, whatever a foreign program has stored.

local NAMES = 4
local most, room, field = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local reply = {}

local function size_of(key)
  if field == '' then return redis.pcall('STRLEN', key) end
  return redis.pcall('HSTRLEN', key, field)
end

for i = NAMES, #ARGV do
  local size = size_of(ARGV[i])
  if type(size) == 'table' then
    reply[#reply + 1] = -1
  elseif size > most then
    reply[#reply + 1] = size
  elseif size == 0 then
    reply[#reply + 1] = false
  else
    room = room - size
    if room < 0 and #reply > 0 then break end
    reply[#reply + 1] = field == '' and redis.call('GET', ARGV[i]) or redis.call('HGET', ARGV[i], field)
  end
end
return reply
