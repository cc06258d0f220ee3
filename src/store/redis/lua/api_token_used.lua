local id, at = take(), take()
local old = redis.call('HGET', p .. 'token_used', id)
-- One that is gone stays gone.
if redis.call('HEXISTS', p .. 'tokens', id) == 1 and (not old or tonumber(at) > tonumber(old)) then
  redis.call('HSET', p .. 'token_used', id, at)
end
return { 'ok' }
