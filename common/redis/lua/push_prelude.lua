-- push_prelude: what the scripts start with that push results, or what running jobs say, behind prelude.lua.

-- Results larger than this are not pushed but fetched: one subscriber's buffer holds many of them.
local LARGEST_PUSH = 65536

-- Bytes of results in one message. A subscriber is cut off when its buffer grows past 32 MB (the default), and the
-- server sends nothing while a script runs: past this, results are fetched too.
local LARGEST_MESSAGE = 1048576

-- For how long a result that is not to be kept waits to be fetched, where somebody asked for it: a push is lost
-- when the subscriber's connection is.
local KEEP_AWAITED = 60000

-- A big-endian u32. Redis's struct library would do, but is not part of Lua, nor of fakeredis.
local function u32(n)
  return string.char(math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
end

-- Push ended jobs to whoever waits for them.
-- ids, results: arrays of equal length; results[i] may be ''. keeps[i]: '0' where it has no result key.
-- Message: frames of two big-endian u32 lengths, id, result; a result length of 0 says "fetch it".
local function push_results(ids, results, keeps)
  if #ids == 0 or redis.call('EXISTS', WAITERS) == 0 then return end
  local waiting = redis.pcall('HMGET', WAITERS, unpack(ids))
  if waiting.err then return end
  local frames, sizes, served = {}, {}, {}
  for i, channels in ipairs(waiting) do
    if channels then
      local id, body = ids[i], results[i]
      served[#served + 1] = id
      if keeps[i] == '0' then redis.call('SET', AWAITED .. id, body, 'PX', KEEP_AWAITED) end
      local fetch = u32(#id) .. u32(0) .. id
      local whole = #body <= LARGEST_PUSH and u32(#id) .. u32(#body) .. id .. body
      for channel in string.gmatch(channels, '%S+') do
        local size = sizes[channel] or 0
        frames[channel] = frames[channel] or {}
        if whole and size + #body <= LARGEST_MESSAGE then
          sizes[channel] = size + #body
          table.insert(frames[channel], whole)
        else
          table.insert(frames[channel], fetch)
        end
      end
    end
  end
  for channel, parts in pairs(frames) do redis.pcall('PUBLISH', channel, table.concat(parts)) end
  if #served > 0 then redis.pcall('HDEL', WAITERS, unpack(served)) end
end

-- As push_results, of one job whose result is kept: with fewer commands, as its caller waits for nothing else.
local function push_result(id, result)
  local channels = redis.pcall('HGET', WAITERS, id)
  if type(channels) ~= 'string' then return end
  local size = #result
  if size >= LARGEST_PUSH or #id >= LARGEST_PUSH or string.find(channels, ' ', 1, true) then
    return push_results({ id }, { result }, { '-1' })
  end
  local head = string.char(0, 0, math.floor(#id / 256), #id % 256, 0, 0, math.floor(size / 256), size % 256)
  redis.pcall('PUBLISH', channels, head .. id .. result)
  redis.pcall('HDEL', WAITERS, id)
end
