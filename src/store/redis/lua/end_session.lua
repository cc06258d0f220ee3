local digest, now = take(), take()
local over = redis.call('ZRANGEBYSCORE', p .. 'session_ends', '-inf', now)
over[#over + 1] = digest
for _, one in ipairs(over) do
  redis.call('HDEL', p .. 'sessions', one)
  redis.call('ZREM', p .. 'session_ends', one)
end
return { 'ok' }
