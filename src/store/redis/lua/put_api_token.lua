local id, digest, used, body, most = take(), take(), take(), take(), tonumber(take())
local old = redis.call('HGET', p .. 'tokens', id)
if old == digest .. ' ' .. body then
  -- Sent again because its answer was lost.
  return { 'ok' }
end
if redis.call('HLEN', p .. 'tokens') >= most then
  return { 'full' }
end
if old or redis.call('HEXISTS', p .. 'token_digests', digest) == 1 then
  return { 'exists' }
end
redis.call('HSET', p .. 'tokens', id, digest .. ' ' .. body)
redis.call('HSET', p .. 'token_digests', digest, id)
if used ~= '' then
  redis.call('HSET', p .. 'token_used', id, used)
end
return { 'ok' }
