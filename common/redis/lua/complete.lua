-- complete: record the outcomes of many attempts, each only if its lease is still this attempt's.
--
-- KEYS: queues, in the order the worker names them
-- ARGV: 1 "1" if these were sent before and the reply was lost, else "0"
--       then groups of outcomes of one kind; for each group six: kind, index of its queue from 0, attempt (0: the
--       first one, of a job that has a history, see claim.lua), x, y, number of outcomes; then for each outcome
--       three: id, token, z
--       kind "finish":  x keep the results for ms (0 = do not, -1 = for ever), y keep the lease keys as "done"
--                       for ms (0 = do not; cron ticks), z result
--       kind "bury":    as "finish", and each leaves more than a result. The group has two more: keep the letters for
--                       ms (0 = there are none), most letters there are to be; and each outcome four more: payload,
--                       about it, traceback, entry for the job's history ('' = none)
--       kind "retry":   x what it has a head start for once it is due (a priority, 0 = nothing), y lane that
--                       it joins then (0 = none), z due again after ms
--       kind "return":  x, y unused, z due at (Unix ms), attempt counted: back to where it stood
--       kind "release": x, y as for "retry", z due at (Unix ms), attempt not counted
--       Each outcome of the last three has one more: entry for the job's history ('' = none)
-- Returns: two arrays of indexes from 0, counted over all groups: outcomes refused because the lease was lost;
--          outcomes that stand recorded since the first sending
-- Invariant: a batch of N leaves the keyspace as N batches of one do, but for the wake marker, which is only
--            a hint, and the order of the batch's letters. An attempt has one outcome; of more, one counts. An
--            outcome named in the reply changes nothing. A history has an entry of an attempt once, lives on while its
--            job does, and from its end as long as the longer of result and letter.
--
-- A batch sent again finds the leases it gave up itself gone. It recognises its work by what it left behind: the
-- same result bytes; no job at all, where no result was kept; or the job back in its queue or lane with this attempt counted.
-- Where the lease ran out while the server was away, and nobody took the job since, the queue still has its end as
-- the score: then the outcome is taken all the same.
--
-- A job that is to be aborted and goes back to wait is due at once, so that a worker ends it now and not after the
-- backoff, where it is this very job that is meant.
--
-- A letter's score is when it came, and past that of the letter before: a fraction of a millisecond tells those of one
-- batch apart, so that whoever pages through them needs a score alone. Letters over age or over number go here, some
-- at a time; and all of them by themselves, when none has come for as long as one is kept.
--
-- A first attempt that ends its job pays nothing for histories: most jobs have none. That one has, after an attempt
-- that was not counted, is said by an arq:retry of 0 while it waits, and by an attempt of 0 while it runs.

-- Most jobs end at their first attempt, and ask for nothing: the same as below, for a batch of one group of such, without
-- what others need. A time that PEXPIREAT refuses (arq's functions may name any) would lose results once the leases are
-- gone: below they are stored first. Nothing is done here where a lease is not ours, or a job is named twice.
local many, keep = tonumber(ARGV[7]), ARGV[5]
if
  ARGV[1] == '0'
  and ARGV[2] == 'finish'
  and ARGV[4] == '1'
  and ARGV[6] == '0'
  and (keep == '-1' or (#keep < 16 and string.byte(keep) ~= 45)) -- a minus
  and #ARGV == 7 + 3 * many
then
  local given, call = ARGV, redis.call -- a local is looked up in a tenth of the time
  local ids, leases, gone, kept, seen, plain = {}, {}, {}, {}, {}, true
  for i = 1, many do
    local at, id = 2 * i, given[5 + 3 * i]
    plain = plain and not seen[id]
    seen[id], ids[i], leases[i] = true, id, LEASE .. id
    gone[at - 1], gone[at] = leases[i], JOB .. id
    kept[at - 1], kept[at] = RESULT .. id, given[7 + 3 * i]
  end
  for i, holder in ipairs(call('MGET', unpack(leases))) do
    plain = plain and holder == given[6 + 3 * i]
  end
  if plain then
    call('DEL', unpack(gone)) -- a write that needs no memory (see the prelude)
    redis.pcall('ZREM', KEYS[ARGV[3] + 1], unpack(ids))
    local lone = many == 1 and keep ~= '0' -- where a server was idle, its time is what the caller waits for
    if keep == '-1' then
      call('MSET', unpack(kept))
    elseif lone then
      call('SET', kept[1], kept[2], 'PX', keep)
    elseif keep ~= '0' then
      call('MSET', unpack(kept)) -- with PEXPIREAT it costs four fifths of SET with PX
      local expiry = decimal(now_ms() + keep)
      for i = 1, 2 * many, 2 do call('PEXPIREAT', kept[i], expiry) end
    end
    if lone then
      redis.pcall('ZREM', ABORT, ids[1])
      push_result(ids[1], kept[2])
    elseif call('EXISTS', ABORT, WAITERS) > 0 then
      redis.pcall('ZREM', ABORT, unpack(ids))
      local results, keeps = {}, {}
      for i = 1, many do results[i], keeps[i] = kept[2 * i], keep end
      push_results(ids, results, keeps)
    end
    return { {}, {} }
  end
end

local HEAD, STRIDE = 6, 3
local BURY_HEAD, BURY_STRIDE = 6 + 2, 3 + 4
local STEP = 1 / 1024 -- a double holds it exactly beside our times
local AHEAD = 60000 -- a score further in the future is not ours, or of a clock that was wrong
local MOST_DROPPED = 100 -- besides as many as come
local again = ARGV[1] == '1'
local now = now_ms()

-- How many values stand in front of a group's outcomes, and how many each of those has.
local function shape(kind)
  if kind == 'finish' then return HEAD, STRIDE end
  if kind == 'bury' then return BURY_HEAD, BURY_STRIDE end
  return HEAD, STRIDE + 1
end

local leases, putting_back = {}, false
do
  local at, n = 2, 0
  while at <= #ARGV do
    local kind = ARGV[at]
    local head, stride = shape(kind)
    putting_back = putting_back or (kind ~= 'finish' and kind ~= 'bury')
    local last = at + head + stride * tonumber(ARGV[at + 5]) - 1
    for i = at + head, last, stride do
      n = n + 1
      leases[n] = LEASE .. ARGV[i]
    end
    at = last + 1
  end
end
local holders = redis.call('MGET', unpack(leases))

local lost, repeated, seen, awake = {}, {}, {}, {}
local leaving, returning, lifts = {}, {}, {} -- queue -> ids; queue -> scores and ids; likewise
local marks = {} -- queue -> ids, lanes and places in them
local gone, counts = {}, {} -- keys; keys and attempts
local ended, results, keeps, ticks = {}, {}, {}, {}
local buried, keep_letters, most_letters = {}, 0, 0 -- places in ARGV and queues
-- ids, entries and waits; indexes of the ended; of these, ms to keep a history at least; of a group, ms to keep letters
local entries, histories, longer, letters

-- What most batches have no use for is made where it is needed (see claim.lua).
local put_back
if putting_back then
  local aborting

  local function is_unwanted(id)
    if aborting == nil then aborting = redis.call('EXISTS', ABORT) == 1 end
    local wish = aborting and redis.pcall('ZSCORE', ABORT, id)
    return type(wish) == 'string' and string.sub(wish, -#MEANT) == MEANT
  end

  -- attempts: counted so far; -1 for none of a job that has a history. Returns when it is due.
  function put_back(queue, id, attempts, due, priority, lane)
    if due > now and is_unwanted(id) then due = now end
    if due <= now or redis.call('ZCOUNT', queue, '-inf', '(' .. due) == 0 then awake[queue] = true end
    gone[#gone + 1] = LEASE .. id
    if attempts ~= 0 then
      counts[#counts + 1], counts[#counts + 2] = RETRY .. id, math.max(attempts, 0)
    else
      gone[#gone + 1] = RETRY .. id
    end
    returning[queue] = returning[queue] or {}
    table.insert(returning[queue], due)
    table.insert(returning[queue], id)
    if priority ~= '0' then
      lifts[queue] = lifts[queue] or {}
      table.insert(lifts[queue], due + LEAD + priority / 2048)
      table.insert(lifts[queue], id)
    end
    if lane ~= '0' then
      local place = priority == '0' and due or due + LEAD + priority * LEAD_EACH
      marks[queue] = marks[queue] or {}
      table.insert(marks[queue], id)
      table.insert(marks[queue], string.format('%s %.17g', lane, place))
    end
    return due
  end
end

local judge
if again then
  -- What becomes of an outcome sent again whose lease is not there: "apply", "repeat" or "lost".
  function judge(kind, queue, id, attempt, holder, x, z)
    if kind == 'finish' and redis.pcall('GET', RESULT .. id) == z then return 'repeat' end
    local score = redis.call('ZSCORE', queue, id)
    if holder and holder ~= DONE then return 'lost' end
    if not score and kind ~= 'finish' and redis.pcall('HEXISTS', LANED .. queue, id) == 1 then -- behind its tenant's head
      local stored = tonumber(redis.pcall('GET', RETRY .. id) or 0)
      return stored == (kind == 'release' and attempt - 1 or attempt) and 'repeat' or 'lost'
    end
    if not score then
      local over = kind == 'finish' and x == '0' and redis.call('EXISTS', JOB .. id) == 0
      return over and 'repeat' or 'lost'
    end
    local counted = tonumber(redis.pcall('GET', RETRY .. id) or 0)
    if string.sub(score, -2) == '.5' then return counted == attempt - 1 and 'apply' or 'lost' end
    if kind == 'release' then return counted == attempt - 1 and tonumber(score) == tonumber(z) and 'repeat' or 'lost' end
    return kind ~= 'finish' and counted == attempt and 'repeat' or 'lost'
  end
end

-- Whether an outcome counts though it has no lease; says so in the reply where it does not.
local function stands(n, kind, queue, id, attempt, x, z)
  local verdict = again and not seen[id] and judge(kind, queue, id, math.max(attempt, 1), holders[n], x, z) or 'lost'
  if verdict == 'apply' then return true end
  local told = verdict == 'repeat' and repeated or lost
  told[#told + 1] = n - 1
  return false
end

local at, n = 2, 0
while at <= #ARGV do
  local kind, queue, attempt = ARGV[at], KEYS[tonumber(ARGV[at + 1]) + 1], tonumber(ARGV[at + 2])
  local x, y = ARGV[at + 3], ARGV[at + 4]
  local head, stride = shape(kind)
  local last = at + head + stride * tonumber(ARGV[at + 5]) - 1
  local burying = kind == 'bury'
  if burying then
    kind, letters = 'finish', tonumber(ARGV[at + 6])
    if letters > 0 then keep_letters, most_letters = letters, tonumber(ARGV[at + 7]) end
  end
  local members, keys, over = leaving[queue] or {}, #gone, #ended
  local left = #members
  for i = at + head, last, stride do
    n = n + 1
    local id, token, z = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if (holders[n] == token and not seen[id]) or stands(n, kind, queue, id, attempt, x, z) then
      seen[id] = true
      if kind == 'finish' then
        gone[keys + 1], gone[keys + 2] = leases[n], JOB .. id
        keys, over = keys + 2, over + 1
        if attempt ~= 1 then -- a first attempt has no count (see claim.lua), and looking for one costs a tenth
          keys = keys + 1
          gone[keys] = RETRY .. id
          histories = histories or {}
          histories[#histories + 1] = over
        end
        left = left + 1
        members[left] = id
        ended[over], results[over], keeps[over] = id, z, x
        if y ~= '0' then ticks[id] = y end
        if burying then
          local entry = ARGV[i + 6]
          if letters > 0 then buried[#buried + 1], buried[#buried + 2] = i, queue end
          if entry ~= '' then
            entries, histories = entries or {}, histories or {}
            entries[#entries + 1], entries[#entries + 2], entries[#entries + 3] = id, entry, 0
            if attempt == 1 then histories[#histories + 1] = over end
          end
          longer = longer or {}
          longer[over] = letters
        end
      else
        local due, entry = nil, ARGV[i + 3]
        if kind == 'retry' then
          due = put_back(queue, id, math.max(attempt, 1), now + tonumber(z), x, y)
        elseif kind == 'return' then
          due = put_back(queue, id, math.max(attempt, 1), tonumber(z), '0', '0')
        else
          due = put_back(queue, id, (attempt == 1 and entry ~= '') and -1 or attempt - 1, tonumber(z), x, y)
        end
        if entry ~= '' then
          entries = entries or {}
          entries[#entries + 1], entries[#entries + 2], entries[#entries + 3] = id, entry, due - now
        end
      end
    end
  end
  if #members > 0 then leaving[queue] = members end
  at = last + 1
end

-- A server without memory refuses what is written here: then histories have gaps, and nothing else happens.
if entries then
  local MOST_KEPT = 50 -- of one job; "+<number>" in front of them says how many went
  local KEEP = 2592000000 -- 30 days past its time; a stock arq worker that ends the job knows of no history
  for e = 1, #entries, 3 do
    local history = ATTEMPTS .. entries[e]
    local length = redis.pcall('RPUSH', history, entries[e + 1])
    if type(length) == 'number' then
      if length > MOST_KEPT then
        local dropped = tonumber(string.match(redis.call('LINDEX', history, 0), '^%+(%d+)$'))
        if dropped then length = length - 1 end
        if length > MOST_KEPT then
          redis.call('LTRIM', history, -MOST_KEPT, -1)
          redis.call('LPUSH', history, '+' .. decimal((dropped or 0) + length - MOST_KEPT))
        end
      end
      redis.call('PEXPIRE', history, decimal(math.max(0, entries[e + 2]) + KEEP))
    end
  end
end

-- All that can fail has been read by now, and the first write needs no memory (see the prelude).
-- Lua's unpack takes some thousands of values; a batch of 1,000 stays below that.
if #gone > 0 then redis.call('DEL', unpack(gone)) end
for queue, members in pairs(leaving) do redis.pcall('ZREM', queue, unpack(members)) end
if putting_back then
  for queue, members in pairs(returning) do redis.call('ZADD', queue, unpack(members)) end
  for queue, members in pairs(lifts) do redis.pcall('ZADD', LIFT .. queue, unpack(members)) end
  for queue, members in pairs(marks) do redis.pcall('HSET', FAIR .. queue, unpack(members)) end
  if #counts > 0 then redis.call('MSET', unpack(counts)) end
end
if #ended > 0 then
  local kept, last = {}, 0
  for i = 1, #ended do
    if keeps[i] ~= '0' then
      kept[last + 1], kept[last + 2] = RESULT .. ended[i], results[i]
      last = last + 2
    end
  end
  if last > 0 then redis.call('MSET', unpack(kept)) end -- with PEXPIREAT it costs four fifths of SET with PX
  local call, place, keep, expiry = redis.call, 1 -- looked up once
  for i = 1, #ended do
    if keeps[i] ~= keep then
      keep = keeps[i]
      expiry = tonumber(keep) > 0 and decimal(now + keep)
    end
    if expiry then call('PEXPIREAT', kept[place], expiry) end
    if keep ~= '0' then place = place + 2 end
  end
end
for id, done in pairs(ticks) do redis.call('SET', LEASE .. id, DONE, 'PX', done) end
local asked = #ended > 0 and redis.call('EXISTS', ABORT, WAITERS) > 0
if asked then redis.pcall('ZREM', ABORT, unpack(ended)) end
if histories then
  for _, i in ipairs(histories) do
    local history, keep = ATTEMPTS .. ended[i], math.max(tonumber(keeps[i]), longer and longer[i] or 0)
    if keeps[i] == '-1' then
      redis.call('PERSIST', history)
    elseif keep == 0 then
      redis.call('UNLINK', history)
    else
      redis.call('PEXPIRE', history, decimal(keep))
    end
  end
end
if #buried > 0 then
  local function drop_letters(ids)
    if #ids == 0 then return end
    local letters = {}
    for i, id in ipairs(ids) do letters[i] = LETTER .. id end
    redis.call('UNLINK', unpack(letters))
    redis.pcall('HDEL', ABOUT, unpack(ids))
    redis.pcall('ZREM', DEAD, unpack(ids))
  end

  -- Returns the ids of letters that went: over age, over number.
  local function bury()
    local newest = redis.pcall('ZREVRANGE', DEAD, 0, 0, 'WITHSCORES')
    if newest.err then return end -- a key of another type: no outcome fails for it
    local score = tonumber(newest[2] or 0)
    if score ~= score or score > now + AHEAD then score = 0 end
    local keep = decimal(keep_letters)
    for n = 1, #buried, 2 do
      local i, queue = buried[n], buried[n + 1]
      local id = ARGV[i]
      local letter, result = LETTER .. id, ARGV[i + 2]
      if redis.sha1hex then result = redis.sha1hex(result) end -- it tells this result from others; fakeredis has none
      score = math.max(now, score + STEP)
      redis.call('UNLINK', letter)
      redis.call('HSET', letter, 'queue', queue, 'payload', ARGV[i + 3], 'traceback', ARGV[i + 5], 'result', result)
      redis.call('PEXPIRE', letter, keep)
      redis.pcall('HSET', ABOUT, id, ARGV[i + 4])
      redis.call('ZADD', DEAD, string.format('%.17g', score), id)
    end
    local most_dropped = #buried / 2 + MOST_DROPPED
    local aged = redis.call('ZRANGEBYSCORE', DEAD, '-inf', now - keep_letters, 'LIMIT', 0, most_dropped)
    drop_letters(aged)
    local over = redis.call('ZCARD', DEAD) - most_letters
    local displaced = over > 0 and redis.call('ZRANGE', DEAD, 0, math.min(over, most_dropped) - 1) or {}
    drop_letters(displaced)
    if redis.call('PTTL', DEAD) < keep_letters then redis.call('PEXPIRE', DEAD, keep) end
    if redis.call('PTTL', ABOUT) < keep_letters then redis.call('PEXPIRE', ABOUT, keep) end
    return aged, displaced
  end

  for _, ids in ipairs({ bury() }) do
    for _, id in ipairs(ids) do
      if redis.call('EXISTS', JOB .. id) == 0 then -- else its history is of the job that is there now
        local left = redis.call('PTTL', RESULT .. id)
        if left == -2 then redis.call('UNLINK', ATTEMPTS .. id) end
        if left >= 0 then redis.call('PEXPIRE', ATTEMPTS .. id, left) end
      end
    end
  end
end
for queue in pairs(awake) do wake(queue) end
if asked then push_results(ended, results, keeps) end
return { lost, repeated }
