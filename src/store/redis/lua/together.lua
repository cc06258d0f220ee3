-- Who shares the store: a hash of names by number, one of when each was heard, one of numbers by folder.
local members, heard, folders, meta = p .. 'controllers', p .. 'heard', p .. 'folders', p .. 'meta'
local now = millis()
local function drop(one)
  redis.call('HDEL', members, one)
  redis.call('HDEL', heard, one)
end
local function steady_now()
  local known = redis.call('HMGET', meta, 'steady', 'steady_at')
  return known[1] and tonumber(known[1]) + math.max(0, now - tonumber(known[2]))
end
local function silence(one)
  local at = redis.call('HGET', heard, one)
  -- Redis's clock may have been put back: then it was heard right now.
  return at and math.max(0, now - tonumber(at))
end
