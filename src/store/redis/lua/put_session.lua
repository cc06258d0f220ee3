local digest, expires, seen, body, most = take(), take(), take(), take(), tonumber(take())
local sessions, ends = p .. 'sessions', p .. 'session_ends'
local old = redis.call('HGET', sessions, digest)
if old then
  -- Prolonged, never shortened.
  local kept_ends, kept_seen, rest = string.match(old, '^(%S+) (%S+) (.*)$')
  expires = tonumber(kept_ends) > tonumber(expires) and kept_ends or expires
  seen = tonumber(kept_seen) > tonumber(seen) and kept_seen or seen
  body = rest
end
redis.call('HSET', sessions, digest, expires .. ' ' .. seen .. ' ' .. body)
redis.call('ZADD', ends, expires, digest)
-- Those that end first go first.
if redis.call('ZCARD', ends) > most then
  for _, first in ipairs(redis.call('ZRANGE', ends, 0, 0)) do
    redis.call('HDEL', sessions, first)
    redis.call('ZREM', ends, first)
  end
end
return { 'ok' }
