-- delete_dead: forget jobs that failed for good.
--
-- KEYS: none
-- ARGV: job ids
-- Returns: how many were there
-- Invariant: nothing of a letter is left; results, and jobs of the same ids that are in a queue, stay as they are. The
--            history of its attempts is kept as long as its result, as it would be without a letter.

local letters = {}
for i, id in ipairs(ARGV) do letters[i] = LETTER .. id end
local removed = redis.call('ZREM', DEAD, unpack(ARGV))
redis.pcall('HDEL', ABOUT, unpack(ARGV))
redis.call('UNLINK', unpack(letters))
for _, id in ipairs(ARGV) do
  if redis.call('EXISTS', JOB .. id) == 0 then -- else it is of the job that is there now
    local left = redis.call('PTTL', RESULT .. id)
    if left == -2 then redis.call('UNLINK', ATTEMPTS .. id) end
    if left >= 0 then redis.call('PEXPIRE', ATTEMPTS .. id, left) end
  end
end
return removed
