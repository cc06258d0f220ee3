-- Says what is set aside, or that nothing is.
local mark = take()
if mark == '' then
  redis.call('HDEL', p .. 'meta', 'aside')
else
  redis.call('HSET', p .. 'meta', 'aside', mark)
end
return { 'ok' }
