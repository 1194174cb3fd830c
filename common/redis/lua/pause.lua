-- pause: have nothing more of a queue claimed, or nothing more of a task begun, until it is resumed.
--
-- KEYS: none
-- ARGV: 1 "queue" or "task", 2 its name, 3 what is said of it, 4 most pauses there are to be
-- Returns: word, and what is kept: since when (Unix ms) and what was said; the words: "paused"; "same" (it was already,
--          and stays as it was); "full" (there are as many pauses as there may be)
-- Invariant: what a worker has claimed of a queue, or begun of a task, before this goes on.
--
-- Claims look at it themselves (claim.lua), so nothing of a queue is claimed once this has run. A job's task is known
-- to workers alone: they hear of this, and put what they claim of it into a lane (the door in gates_prelude.lua).

local field, most = ARGV[1] .. ':' .. ARGV[2], tonumber(ARGV[4])
local found = redis.call('HGET', PAUSED, field)
if found then return { 'same', found } end
if redis.call('HLEN', PAUSED) >= most then return { 'full', '' } end
local kept = decimal(now_ms()) .. ' ' .. ARGV[3]
redis.call('HSET', PAUSED, field, kept)
redis.call('HDEL', PAUSED, 'resuming:' .. ARGV[2])
redis.pcall('PUBLISH', CONTROL, 'pauses')
return { 'paused', kept }
