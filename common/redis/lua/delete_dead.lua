-- delete_dead: forget jobs that failed for good.
--
-- KEYS: none
-- ARGV: job ids
-- Returns: how many were there
-- Invariant: nothing of a letter is left; results, and jobs of the same ids that are in a queue, stay as they are.

local letters = {}
for i, id in ipairs(ARGV) do letters[i] = LETTER .. id end
local removed = redis.call('ZREM', DEAD, unpack(ARGV))
redis.pcall('HDEL', ABOUT, unpack(ARGV))
redis.call('UNLINK', unpack(letters))
return removed
