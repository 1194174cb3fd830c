-- claim: take due jobs under leases, of each queue in order of their due time.
--
-- KEYS: queues, the first one first
-- ARGV: 1 most jobs to take, 2 lease ms, 3 worker id, 4 number of this claim, 5 number of the first of this worker's
--       claims whose reply did not come (0 = none); and for several queues: 6 ms after which a waiting job of a queue
--       that is not the first has a share (0 = never); then, where the queues have weights, the weight of each
-- Returns: now ms; next due ms (earliest score in the future, -1 if there is none, or no room was left); jobs in these
--          queues; places, counted from 0 over all jobs taken, of those to be aborted, each with the time of the wish
--          (see abort.lua); whose they are: index of a queue from 0 and how many jobs were taken there, again and again,
--          in the order of the jobs; places of those whose attempt is not their first, each with the attempt, and of
--          those whose job has a history though it is, having been put off or given back, each with 0;
--          then for each job taken: id, payload (nil if it expired), due ms (nil: the same as of the one before)
-- Invariant: each job taken has a lease key with token "worker:attempt:claim", all its earlier attempts counted, and
--            its score half a millisecond past the end of the lease, so that it is due again by itself, and this
--            attempt known of, if the worker dies. What was taken is always told, though another queue be a key of
--            another type. Each attempt found lost is in its job's history once.
--
-- A stock arq worker leaves the score of a job it runs where it was. Such jobs stand in front of the due
-- ones; they are skipped by paging on, MOST_PAGES times at most. The first page is as large as the room there is;
-- where it was full of such jobs the next are large, so that a worker with room for one job gets past them too.
--
-- What a claim took whose reply was lost would be run by nobody until its lease has run out. The worker's next claim
-- names that claim, and is given its jobs again, under a lease of its own; the attempt is the same one.
--
-- Several queues are served in their order, each as far as there is room, so that a full first queue would keep the
-- others from ever being served. So one whose oldest job has waited for long is given a tenth of the room. With
-- weights each is given its share of the room, and what one leaves goes to the others by their weights. A share of a
-- job is a job in some of the claims: which ones is told by the fractions of multiples of an irrational number, one
-- for each round, whose long run is exact where dice would be roughly right (docs/decisions/0009).
--
-- Nothing is claimed of a queue that is paused; nor is it said when its next job is due, or how many there are.
--
-- arq:retry counts the attempts before this one. Most jobs have one attempt, and so never have the key: a count
-- written by each claim was a tenth of all that a job costs the server.

local MOST_PAGES, LARGE_PAGE = 20, 250
local MOST_ATTEMPTS = 1000000000 -- what a foreign program may have counted; a token holds the number in full
local LATEST = 9007199254740991
local MOST_LIFTED = 250
-- Wishes to abort whose job is gone are dropped after a day, some at a time. arq's own workers never do.
local OLD_WISH, MOST_WISHES = 86400000, 100
local free, lease, worker, claim = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local unanswered = tonumber(ARGV[5])
local now = now_ms()
local present, lease_expiry, lease_end = decimal(now), decimal(now + lease), lapse(now, lease)
local first_token = worker .. ':1:' .. claim

-- A fleet that is not busy finds one job due, most often one that asks for nothing. That is seen with two commands, and
-- the claim done with half of what comes below: where a server was idle, its time is what the job waits for.
if not KEYS[2] and unanswered == 0 and free > 0 then
  local queue, call = KEYS[1], redis.call
  local heads = redis.pcall('ZRANGE', queue, '0', '1', 'WITHSCORES')
  local id, due, next_due = heads[1], heads[2], tonumber(heads[4])
  -- A whole number is as long as the present: no head start, and no attempt that was lost.
  if due and #due == #present and due <= present and not (next_due and next_due < now + 1) then
    local lease_key, key = LEASE .. id, JOB .. id
    if call('EXISTS', lease_key, RETRY .. id, ABORT, PAUSED, LIFT .. queue, FAIR .. queue, LANED .. queue) == 0 then
      call('DEL', lease_key) -- a write that needs no memory (see the prelude)
      call('SET', lease_key, first_token, 'PX', lease)
      call('ZADD', queue, lease_end, id)
      next_due = free > 1 and math.ceil(math.min(next_due or LATEST, now + lease + 1.5)) or -1
      return { now, next_due, call('ZCARD', queue), {}, { 0, 1 }, {}, id, call('MGET', key)[1], due }
    end
  end
end

local HEAD, STRIDE = 6, 3
local abort_at, taken_from, later_attempts = {}, {}, {}
local reply = { now, -1, 0, abort_at, taken_from, later_attempts }
local length = HEAD
local told -- the due time in the reply that came last
local failure
local paused = {}
local passed_over = {} -- how many jobs others hold in front of those of a queue that are free
local lanes_in = {} -- of queues that have any
-- What most servers have none of is asked for in one command.
local rare = { ABORT, PAUSED }
for i, queue in ipairs(KEYS) do
  rare[3 * i], rare[3 * i + 1], rare[3 * i + 2] = LIFT .. queue, FAIR .. queue, LANED .. queue
end
rare = redis.call('EXISTS', unpack(rare)) > 0
local aborting = rare and redis.call('EXISTS', ABORT) == 1

-- The scores of a page's jobs. Redis writes each with 17 digits, which is a tenth of what a claim costs. But jobs that
-- were enqueued together have the same, and so have all that stand between two of the same: some are asked for theirs.
local function scores_of(queue, ids)
  local SAMPLED = 8 -- one in so many
  local count, call = #ids, redis.call
  local scores, sample, others, places = {}, {}, {}, {}
  local ends = call('ZMSCORE', queue, ids[1], ids[count])
  local first, last = ends[1], ends[2]
  if first == last then
    for i = 1, count do scores[i] = first end
    return scores
  end
  for i = 1 + SAMPLED, count - 1, SAMPLED do sample[#sample + 1] = ids[i] end
  local found = sample[1] and call('ZMSCORE', queue, unpack(sample)) or {}
  found[#found + 1] = last
  local from, score = 1, first
  for n, next_score in ipairs(found) do
    local upto = math.min(1 + n * SAMPLED, count)
    scores[from], scores[upto] = score, next_score
    for i = from + 1, upto - 1 do
      scores[i] = score
      if score ~= next_score then others[#others + 1], places[#places + 1] = ids[i], i end
    end
    from, score = upto, next_score
  end
  if others[1] then
    for n, its in ipairs(call('ZMSCORE', queue, unpack(others))) do scores[places[n]] = its end
  end
  return scores
end

-- Take a page whose jobs nobody runs, at their first attempt, none of which asks for anything: most are like that, and
-- cost a tenth less so. Returns false, and has done nothing, where it is not.
local function take_plain(queue, ids, scores)
  local count, whole, call = #ids, #present, redis.call
  local leases, counts, keys, places = {}, {}, {}, {}
  for i = 1, count do
    if #scores[i] ~= whole then return false end -- a whole number is as long as the present
    counts[i] = RETRY .. ids[i]
  end
  if call('EXISTS', unpack(counts)) > 0 then return false end -- before more is made, in vain, of what is often so
  for i = 1, count do
    local id, at = ids[i], 2 * i
    leases[at - 1], leases[at] = LEASE .. id, first_token
    places[at - 1], places[at] = lease_end, id
    keys[i] = JOB .. id
  end
  call('DEL', counts[1]) -- a write that needs no memory (see the prelude)
  if call('MSETNX', unpack(leases)) == 0 then return false end
  for i = 1, 2 * count, 2 do call('PEXPIREAT', leases[i], lease_expiry) end -- with MSET it is cheaper than SET with PX
  call('ZADD', queue, unpack(places))
  local payloads = call('MGET', unpack(keys))
  for i = 1, count do
    local due = scores[i]
    reply[length + 1], reply[length + 2], reply[length + 3] = ids[i], payloads[i], due ~= told and due
    told = due
    length = length + STRIDE
  end
  free = free - count
  return true
end

-- Say how a queue stands, once it is served.
local function look(queue)
  local size = redis.call('ZCARD', queue) + (lanes_in[queue] and lanes_in[queue].count() or 0)
  if size == 0 then redis.call('DEL', WAKE .. queue) end -- an empty queue wakes nobody, and leaves no key
  if paused[queue] then return end
  if free == 0 then
    local more = redis.call('ZRANGEBYSCORE', queue, '-inf', present, 'LIMIT', passed_over[queue] or '0', '1')
    if #more > 0 then wake(queue) end -- more is due than this worker can take: pass the wake-up on
  else
    local next_due = redis.call('ZRANGEBYSCORE', queue, '(' .. present, '+inf', 'WITHSCORES', 'LIMIT', '0', '1')[2]
    next_due = tonumber(next_due)
    if next_due and (reply[2] == -1 or next_due < reply[2]) then reply[2] = math.ceil(math.min(next_due, LATEST)) end
  end
  reply[3] = reply[3] + size
end

-- One queue whose due jobs are all plain is served by what stands here: each function that is made below costs as much
-- as a small command, as it looks for all that it uses of what stands around it.
local looked_at
if not KEYS[2] and unanswered == 0 and not rare and free > 0 then
  local queue = KEYS[1]
  looked_at = redis.pcall('ZRANGEBYSCORE', queue, '-inf', present, 'LIMIT', '0', free)
  if not looked_at.err and (not looked_at[1] or take_plain(queue, looked_at, scores_of(queue, looked_at))) then
    if looked_at[1] then taken_from[1], taken_from[2] = 0, #looked_at end
    look(queue)
    return reply
  end
end

-- Note the attempt of the job that comes next in the reply, unless it is the first.
local function note_attempt(attempt)
  if attempt == 1 then return end
  local last = #later_attempts
  later_attempts[last + 1], later_attempts[last + 2] = (length - HEAD) / STRIDE, attempt
end

-- Take what is free of one page, as far as there is room. Returns how many others hold.
local function take(queue, ids, lanes)
  local count = #ids
  local scores = scores_of(queue, ids)
  local plain = not lanes and not aborting and count <= free and not looked_at
  if plain and take_plain(queue, ids, scores) then return 0 end
  local marks, keys = {}, {}
  for i = 1, count do
    local id = ids[i]
    marks[2 * i - 1], marks[2 * i], keys[i] = LEASE .. id, RETRY .. id, JOB .. id
  end
  local payloads = redis.call('MGET', unpack(keys))
  -- Most jobs have neither: to ask how many there are costs two thirds of asking for each.
  local found = redis.call('EXISTS', unpack(marks)) > 0 and redis.call('MGET', unpack(marks)) or {}
  local aborts = aborting and redis.pcall('ZMSCORE', ABORT, unpack(ids))
  local lane_marks, joined
  if lanes then
    lanes.jumped = false
    local holders = {}
    for i = 1, count do holders[i] = found[2 * i - 1] end
    lane_marks, joined = lanes.sort(ids, holders, aborts)
  end
  local leases, granted, counts, places, ended, taken, held, losses = {}, 0, {}, {}, {}, 0, 0
  for i = 1, count do
    if taken == free or (lanes and lanes.jumped) then break end
    local id, lease_key, holder, counted, due = ids[i], marks[2 * i - 1], found[2 * i - 1], found[2 * i], scores[i]
    local mark = lane_marks and lane_marks[i]
    if joined and joined[i] then
      mark = nil -- it waits in its lane
    elseif not holder then
      local attempt, token = 1, first_token
      -- A lease that ran out: the attempt under it counts. A whole number is as long as the present.
      local lost = #due ~= #present and string.sub(due, -2) == '.5'
      if counted or lost then
        attempt = (tonumber(counted or 0) or 0) + (lost and 2 or 1)
        if attempt ~= attempt then attempt = 1 end -- not a number
        attempt = math.floor(math.max(1, math.min(attempt, MOST_ATTEMPTS)))
        token = worker .. ':' .. attempt .. ':' .. claim
        if lost then
          counts[#counts + 1], counts[#counts + 2] = marks[2 * i], attempt - 1
          losses = losses or {}
          losses[#losses + 1], losses[#losses + 2] = id, 'lost ' .. attempt - 1 .. ' ' .. due
        elseif attempt == 1 then
          redis.call('DEL', marks[2 * i]) -- it counts none (see enqueue.lua), and the lease key says more
          if redis.call('EXISTS', ATTEMPTS .. id) == 1 then attempt = 0 end
        end
        note_attempt(attempt)
      end
      if length == HEAD then redis.call('DEL', lease_key) end -- a write that needs no memory (see the prelude)
      if aborts and aborts[i] then
        abort_at[#abort_at + 1], abort_at[#abort_at + 2] = (length - HEAD) / STRIDE, aborts[i]
      end
      if mark then
        redis.call('SET', lease_key, token, 'PX', lease) -- at once, as what comes may fail
        due = lanes.pass(id, mark)
      else
        leases[granted + 1], leases[granted + 2] = lease_key, token
        granted = granted + 2
      end
      taken = taken + 1
      places[2 * taken - 1], places[2 * taken] = lease_end, id
      reply[length + 1], reply[length + 2], reply[length + 3] = id, payloads[i], due ~= told and due
      told = #due == #present and due -- what a fraction says may be another time for each job
      length = length + STRIDE
    else
      if mark then lanes.pass(id, mark) end -- a lane does not wait for what others run
      if holder == DONE then
        ended[#ended + 1] = id
      else
        held = held + 1
      end
    end
  end
  if granted > 0 then
    redis.call('MSET', unpack(leases)) -- with PEXPIREAT it costs four fifths of SET with PX
    local call = redis.call -- looked up once
    for i = 1, granted, 2 do call('PEXPIREAT', leases[i], lease_expiry) end
  end
  if joined then lanes.see_to(joined) end
  if taken > 0 then
    redis.call('ZADD', queue, unpack(places))
    if #counts > 0 then
      redis.call('MSET', unpack(counts))
      local MOST_LOST = 100 -- of a job whose attempts are nothing else; complete.lua bounds all other histories
      for n = 1, #losses, 2 do
        local history = ATTEMPTS .. losses[n]
        local length = redis.pcall('RPUSH', history, losses[n + 1])
        if type(length) == 'number' then
          if length > MOST_LOST then redis.call('LTRIM', history, -MOST_LOST / 2, -1) end
          redis.call('PEXPIRE', history, 2592000000) -- as complete.lua does
        end
      end
    end
    free = free - taken
  end
  if #ended > 0 then
    redis.call('ZREM', queue, unpack(ended))
    for _, id in ipairs(ended) do redis.call('DEL', JOB .. id) end
  end
  return held
end

-- What most claims have no use for is made where it is needed: each function made costs as much as a small command.
local prepare
if rare then
  -- See to the jobs of a queue that have priorities or lanes.
  function prepare(queue)
    -- Give jobs of a priority their head start, now that they are due: those that stand where they were put.
    local function lift()
      local due = redis.pcall('ZRANGEBYSCORE', LIFT .. queue, '-inf', '(' .. now + 1, 'WITHSCORES', 'LIMIT', 0, MOST_LIFTED)
      if due.err or #due == 0 then return end
      local ids, places = {}, {}
      for i = 1, #due, 2 do ids[#ids + 1] = due[i] end
      redis.call('ZREM', LIFT .. queue, unpack(ids)) -- a write that needs no memory (see the prelude)
      for i, score in ipairs(redis.call('ZMSCORE', queue, unpack(ids))) do
        local noted = tonumber(due[2 * i])
        local when = math.floor(noted)
        if score and math.floor(tonumber(score)) == when then
          places[#places + 1], places[#places + 2] = when + LEAD + steps_of(noted) * LEAD_EACH, ids[i]
        end
      end
      if #places > 0 then redis.call('ZADD', queue, unpack(places)) end
    end

    lift()
    local lanes = lanes_of(queue, now)
    if lanes.are_sound() then
      lanes.heal()
      lanes_in[queue] = lanes
    end
  end
end

local function serve(queue)
  if paused[queue] then return end
  if rare and not passed_over[queue] and redis.call('EXISTS', LIFT .. queue, FAIR .. queue, LANED .. queue) > 0 then
    prepare(queue)
  end
  local lanes = lanes_in[queue]
  local offset, pages = passed_over[queue] or 0, 0
  while free > 0 and pages < MOST_PAGES do
    local asked = pages == 0 and free or math.max(free, LARGE_PAGE)
    local page = redis.call('ZRANGEBYSCORE', queue, '-inf', present, 'LIMIT', offset, asked)
    if #page == 0 then break end
    local promoted = lanes and lanes.promoted
    offset = offset + take(queue, page, lanes)
    if not lanes or lanes.promoted == promoted then -- else there is more now than there was, and it has made some way
      pages = pages + 1
      if #page < asked then break end
    end
  end
  passed_over[queue] = offset
  if lanes and pages == MOST_PAGES then reply[2] = now end -- the jobs that joined lanes stood in front of others
end

-- Have `work` done on a queue, and note what it took there; a queue of another type stops no other.
local function on(index, work)
  local before = length
  local ok, why = pcall(work, KEYS[index])
  if not ok then failure = failure or why end
  if length > before then
    taken_from[#taken_from + 1] = index - 1
    taken_from[#taken_from + 1] = (length - before) / STRIDE
  end
end

if rare and redis.call('EXISTS', PAUSED) == 1 then
  for _, queue in ipairs(KEYS) do paused[queue] = redis.pcall('HEXISTS', PAUSED, 'queue:' .. queue) == 1 end
end
if unanswered > 0 then
  -- Give again what a claim took whose reply did not come. Its jobs have the scores of running ones.
  local function give_again(queue)
    local ours, found = worker .. ':', {}
    for page = 0, MOST_PAGES - 1 do
      local running = redis.call('ZRANGEBYSCORE', queue, '(' .. now, lease_end, 'LIMIT', page * LARGE_PAGE, LARGE_PAGE)
      if #running == 0 then break end
      local leases = {}
      for i, id in ipairs(running) do leases[i] = LEASE .. id end
      for i, token in ipairs(redis.call('MGET', unpack(leases))) do
        if token and string.sub(token, 1, #ours) == ours then
          local attempt, number = string.match(token, '^(%d+):(%d+)$', #ours + 1)
          if number and tonumber(number) >= unanswered then found[#found + 1] = { running[i], attempt } end
        end
      end
    end
    for _, job in ipairs(found) do
      local id, attempt = job[1], job[2]
      redis.call('SET', LEASE .. id, ours .. attempt .. ':' .. claim, 'PX', lease)
      redis.call('ZADD', queue, lease_end, id)
      local payload = redis.pcall('GET', JOB .. id)
      note_attempt((attempt == '1' and redis.call('EXISTS', ATTEMPTS .. id) == 1) and 0 or tonumber(attempt))
      reply[length + 1], reply[length + 2] = id, type(payload) == 'string' and payload
      reply[length + 3] = present
      length = length + STRIDE
    end
  end

  for index = 1, #KEYS do on(index, give_again) end
end
if #KEYS == 1 then
  on(1, function(queue)
    serve(queue)
    look(queue)
  end)
else
  local OVERDUE_SHARE = 10 -- one part in so many; all such queues together have half at the most
  local PRIMES = { 2, 3, 5, 7, 11, 13, 17, 19 } -- no ratio of their roots is a fraction

  -- Serve a queue with no more than this of the room. Returns whether it used that up, and so may have more.
  local function serve_part(index, part)
    local left = free - part
    free = part
    on(index, serve)
    local more = free == 0
    free = free + left
    return more
  end

  -- A number from 0 to 1 for a round of this claim.
  local function fraction(round)
    local multiple = tonumber(claim) * math.sqrt(PRIMES[(round - 1) % #PRIMES + 1])
    return multiple - math.floor(multiple)
  end

  local function serve_by_weight(weights)
    local open, round = {}, 0
    for index = 1, #KEYS do open[index] = index end
    while free > 0 and #open > 0 do
      round = round + 1
      local room, total, sum, given = free, 0, 0, 0
      for _, index in ipairs(open) do total = total + weights[index] end
      local shift, still_open = fraction(round), {}
      for _, index in ipairs(open) do
        sum = sum + weights[index]
        local upto = sum == total and room or math.floor(room * sum / total + shift)
        local part = upto - given
        given = upto
        if part == 0 or serve_part(index, part) then still_open[#still_open + 1] = index end
      end
      open = still_open
    end
  end

  -- Whether the first job of a queue has waited for so long; it has not waited for its head start.
  local function is_overdue(queue, aging)
    local first = redis.pcall('ZRANGEBYSCORE', queue, '-inf', now - aging, 'WITHSCORES', 'LIMIT', 0, 1)
    if first.err or #first == 0 then return false end
    local score = tonumber(first[2])
    return score - steps_of(score) * LEAD_EACH <= now - aging
  end

  local function serve_in_order(aging)
    local overdue = {}
    if aging > 0 then
      for index = 2, #KEYS do
        if is_overdue(KEYS[index], aging) then overdue[#overdue + 1] = index end
      end
    end
    local room, given, shift = free, 0, fraction(1)
    for n, index in ipairs(overdue) do
      local upto = math.floor(room * n / math.max(OVERDUE_SHARE, 2 * #overdue) + shift)
      if upto > given then serve_part(index, upto - given) end
      given = upto
    end
    for index = 1, #KEYS do on(index, serve) end
  end

  if ARGV[7] then
    local weights = {}
    for index = 1, #KEYS do weights[index] = tonumber(ARGV[6 + index]) end
    serve_by_weight(weights)
  else
    serve_in_order(tonumber(ARGV[6] or 0))
  end
  for index = 1, #KEYS do on(index, look) end
end
if failure and length == HEAD then return { err = failure } end -- not error(): that hides which error it is
if aborting then
  local function drop_old_wishes()
    local old = redis.call('ZRANGEBYSCORE', ABORT, '-inf', now - OLD_WISH, 'WITHSCORES', 'LIMIT', 0, MOST_WISHES)
    for i = 1, #old, 2 do
      local id, wish = old[i], tonumber(old[i + 1])
      if redis.call('EXISTS', JOB .. id, LEASE .. id) == 0 then
        redis.call('ZREM', ABORT, id)
      else
        redis.call('ZADD', ABORT, string.format('%.2f', now + wish % 1), id) -- looked at again in a day
      end
    end
  end

  pcall(drop_old_wishes)
end
return reply
