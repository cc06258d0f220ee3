local id = take()
local old = redis.call('HGET', p .. 'tokens', id)
if not old then
  return { 'none' }
end
local used = redis.call('HGET', p .. 'token_used', id)
redis.call('HDEL', p .. 'tokens', id)
redis.call('HDEL', p .. 'token_used', id)
redis.call('HDEL', p .. 'token_digests', string.match(old, '^%S+'))
return { 'ok', old, used or '' }
