local me = take()
local known = redis.call('HGET', members, me)
if known then
  redis.call('HDEL', folders, string.match(known, '^%S+'))
end
drop(me)
return { 'ok' }
