local key, since, oldest, body, most = take(), take(), take(), take(), tonumber(take())
local plans, ages, order = p .. 'plans', p .. 'plan_ages', p .. 'plan_order'
local function drop(one)
  redis.call('HDEL', plans, one)
  redis.call('ZREM', ages, one)
  redis.call('ZREM', order, one)
end
for _, old in ipairs(redis.call('ZRANGEBYSCORE', ages, '-inf', '(' .. oldest)) do
  drop(old)
end
local known = redis.call('HGET', plans, key)
if known then
  return { 'ok', known }
end
redis.call('HSET', plans, key, body)
redis.call('ZADD', ages, since, key)
redis.call('ZADD', order, redis.call('HINCRBY', p .. 'meta', 'plans', 1), key)
if redis.call('HLEN', plans) > most then
  drop(redis.call('ZRANGE', order, 0, 0)[1])
end
return { 'ok', body }
