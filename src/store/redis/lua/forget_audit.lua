-- Forgets the beginning of the audit log; the line tells of it. Who forgot meanwhile leaves another anchor.
local anchor, after, from = take(), take(), take()
if (redis.call('HGET', p .. 'marks', 'anchor') or '') ~= anchor then
  return { 'changed' }
end
if head() ~= expected then
  return { 'head', head() }
end
write_line()
redis.call('HSET', p .. 'marks', 'anchor', after)
redis.call('XTRIM', p .. 'audit', 'MINID', from)
return { 'ok' }
