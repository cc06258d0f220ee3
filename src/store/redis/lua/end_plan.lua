-- Notes that all of a plan was done, or forgets it unless it was.
local key, is_done = take(), take() == '1'
local known = redis.call('HGET', p .. 'plans', key)
if known and is_done then
  redis.call('HSET', p .. 'plans', key, '1' .. string.sub(known, 2))
elseif known and string.sub(known, 1, 1) == '0' then
  redis.call('HDEL', p .. 'plans', key)
  redis.call('ZREM', p .. 'plan_ages', key)
  redis.call('ZREM', p .. 'plan_order', key)
end
return { 'ok' }
