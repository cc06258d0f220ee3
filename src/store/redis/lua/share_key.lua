-- The first who comes says what the key is; everybody else gets it, wrapped as they are.
local wraps = p .. 'transfer_key'
if redis.call('EXISTS', wraps) == 0 then
  for n = 2, #ARGV, 2 do
    redis.call('HSET', wraps, ARGV[n], ARGV[n + 1])
  end
end
return { 'ok', unpack(redis.call('HGETALL', wraps)) }
