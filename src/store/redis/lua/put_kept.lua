-- Keeps a value under a field in place of the one before it, and forgets the one that was kept first where there are too many.
local what, field, value, most = take(), take(), take(), tonumber(take())
local values, order = p .. what, p .. what .. '_order'
redis.call('HSET', values, field, value)
redis.call('ZADD', order, redis.call('HINCRBY', p .. 'meta', what, 1), field)
if redis.call('HLEN', values) > most then
  local first = redis.call('ZRANGE', order, 0, 0)[1]
  redis.call('HDEL', values, first)
  redis.call('ZREM', order, first)
end
return { 'ok' }
