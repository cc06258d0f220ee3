-- Begins to fill a place in which nothing of ours is. What is not whole yet counts for nothing.
local mark, format = take(), take()
local aside = redis.call('HGET', p .. 'meta', 'aside')
if aside == mark then
  -- Sent again because its answer was lost.
  return { 'ok' }
elseif aside then
  return { 'aside', aside }
end
for n = place + 1, #ARGV do
  if redis.call('EXISTS', p .. ARGV[n]) == 1 then
    return { 'full' }
  end
end
redis.call('HSET', p .. 'meta', 'aside', mark, 'format', format)
return { 'ok' }
