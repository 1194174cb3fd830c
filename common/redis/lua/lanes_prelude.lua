-- lanes_prelude: what the scripts start with that heed lanes, behind prelude.lua.
--
-- The jobs of one tenant in one queue have a lane. One of them, the head, stands in the queue like any other job; the
-- others wait in the lane, in the order in which they would stand there. Whoever takes the head has the next one become
-- head, as of now: so tenants take turns, and one alone has every turn.
--
--   LANES queue        hash: lane -> id of its head; '' where that is to be looked for
--   FAIR queue         hash: id -> "<lane> <score>" of each job of a tenant's that stands in the queue: the heads, and
--                      those that were put there for later; the score is its place in the lane
--   LANED queue        hash: id -> lane of each job that waits in one
--   LANE queue:lane    sorted set: the jobs that wait there, by their score
--
-- A job that comes due and finds another head joins the lane then. A stock arq worker takes a head and tells nobody:
-- claims look at some lanes each time, and go on with those whose head is gone.

local MOST_STALE, MOST_HEALED = 100, 16
local MOST_STEPS = 12 -- 9, and what stands before those: whose time by a limit has come (gates_prelude.lua)

-- The steps of a score's head start; 0 if it has none.
local function steps_of(score)
  local steps = (score % 1 - LEAD) * 2048
  return steps >= 1 and steps <= MOST_STEPS and steps == math.floor(steps) and steps or 0
end

local function lanes_of(queue, now)
  local heads, standing, waiting, members = LANES .. queue, FAIR .. queue, LANED .. queue, LANE .. queue .. ':'
  local lanes = { promoted = 0, jumped = false } -- jumped: one that became head has a head start

  local function read(mark)
    local lane, score = string.match(mark, '^(%S+) (%S+)$')
    return lane or '', score or '0'
  end

  -- Whether a job stands where a head does: somebody may have moved it to later.
  local function is_due(score)
    return score and tonumber(score) < now + 1
  end

  -- The head of a lane, if it is where it ought to be.
  local function head_of(lane)
    local head = redis.pcall('HGET', heads, lane)
    return type(head) == 'string' and is_due(redis.call('ZSCORE', queue, head)) and head or nil
  end

  -- Whether lanes are what they ought to be; a key of another type is left alone, and the queue goes on without.
  function lanes.are_sound()
    for _, key in ipairs({ heads, standing, waiting }) do
      local count = redis.pcall('HLEN', key)
      if type(count) == 'table' then return false end
    end
    return true
  end

  function lanes.count()
    return redis.call('HLEN', waiting)
  end

  -- Have the next of a lane become its head, as of now.
  function lanes.promote(lane)
    for _ = 1, MOST_STALE do
      local found = redis.pcall('ZPOPMIN', members .. lane)
      local id, score = found[1], found[2]
      if not id then return redis.call('HDEL', heads, lane) end
      if redis.call('HGET', waiting, id) == lane then
        local steps = steps_of(tonumber(score))
        redis.call('HDEL', waiting, id)
        redis.call('ZADD', queue, steps > 0 and now + LEAD + steps * LEAD_EACH or now, id)
        redis.call('HSET', heads, lane, id)
        redis.call('HSET', standing, id, lane .. ' ' .. score)
        lanes.promoted, lanes.jumped = lanes.promoted + 1, lanes.jumped or steps > 0
        return
      end
    end
    redis.call('HSET', heads, lane, '') -- all of these were gone: a claim goes on with it
  end

  -- A job stands in the queue no more, or is another's. Returns its place in the lane.
  function lanes.pass(id, mark)
    local lane, score = read(mark)
    redis.call('HDEL', standing, id)
    local head = head_of(lane)
    if not head or head == id then lanes.promote(lane) end
    return score
  end

  -- Have a job that stands in the queue wait in its lane.
  function lanes.divert(id, mark)
    local lane, score = read(mark)
    redis.call('ZREM', queue, id)
    redis.call('HDEL', standing, id)
    redis.pcall('ZADD', members .. lane, score, id)
    redis.call('HSET', waiting, id, lane)
  end

  -- Look at jobs that are due. Of each lane one may be taken: its head, or the first if it has none; the others join
  -- the lane. Returns for each its mark, and which of them have joined.
  -- holders, aborts: where these say something of a job, it is left where it is.
  function lanes.sort(ids, holders, aborts)
    local marks, first, joined = redis.call('HMGET', standing, unpack(ids)), {}, {}
    local leaving, staying, joining = {}, {}, {}
    for i, id in ipairs(ids) do
      if marks[i] and not holders[i] and not (aborts and aborts[i]) then
        local lane, score = read(marks[i])
        first[lane] = first[lane] or head_of(lane) or id
        if first[lane] ~= id then
          joined[i] = lane
          leaving[#leaving + 1] = id
          staying[#staying + 1], staying[#staying + 2] = id, lane
          joining[lane] = joining[lane] or {}
          table.insert(joining[lane], score)
          table.insert(joining[lane], id)
        end
      end
    end
    if #leaving > 0 then
      redis.call('ZREM', queue, unpack(leaving))
      redis.call('HDEL', standing, unpack(leaving))
      redis.call('HSET', waiting, unpack(staying))
      for lane, places in pairs(joining) do redis.pcall('ZADD', members .. lane, unpack(places)) end
    end
    return marks, joined
  end

  -- See that lanes which jobs have joined have a head.
  function lanes.see_to(joined)
    local seen = {}
    for _, lane in pairs(joined) do
      if not seen[lane] and not head_of(lane) then lanes.promote(lane) end
      seen[lane] = true
    end
  end

  -- Whether a job waits in a lane.
  function lanes.holds(id)
    return redis.pcall('HEXISTS', waiting, id) == 1
  end

  -- Returns the lane of a job that waits, there or in the queue, and its place there; nil if it has none.
  function lanes.of(id)
    local lane = redis.pcall('HGET', waiting, id)
    if type(lane) == 'string' then return lane, redis.pcall('ZSCORE', members .. lane, id) end
    local mark = redis.pcall('HGET', standing, id)
    if type(mark) == 'string' then return read(mark) end
  end

  -- Note the lane of a job that stands in the queue.
  function lanes.mark(id, lane, place)
    redis.pcall('HSET', standing, id, string.format('%s %.17g', lane, place))
  end

  -- Forget a job that waits, in a lane or in the queue. Returns whether it did in a lane.
  function lanes.leave(id)
    local lane = redis.pcall('HGET', waiting, id)
    if type(lane) == 'string' then
      redis.pcall('ZREM', members .. lane, id)
      redis.call('HDEL', waiting, id)
      return true
    end
    local mark = redis.pcall('HGET', standing, id)
    if type(mark) == 'string' then lanes.pass(id, mark) end
    return false
  end

  -- Go on with lanes whose head is gone, some at a time, and forget jobs that are.
  function lanes.heal()
    local found, ids = redis.call('HRANDFIELD', standing, MOST_HEALED, 'WITHVALUES') or {}, {} -- nil: fakeredis
    for i = 1, #found, 2 do ids[#ids + 1] = found[i] end
    if #ids > 0 then
      for i, score in ipairs(redis.call('ZMSCORE', queue, unpack(ids))) do
        if not score then lanes.pass(ids[i], found[2 * i]) end
      end
    end
    found, ids = redis.call('HRANDFIELD', heads, MOST_HEALED, 'WITHVALUES') or {}, {}
    for i = 2, #found, 2 do ids[#ids + 1] = found[i] end
    if #ids > 0 then
      for i, score in ipairs(redis.call('ZMSCORE', queue, unpack(ids))) do
        if not is_due(score) then lanes.promote(found[2 * i - 1]) end
      end
    end
  end

  return lanes
end
