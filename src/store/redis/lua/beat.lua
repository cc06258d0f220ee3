local me, steady, patience = take(), tonumber(take()), tonumber(take())
if redis.call('HEXISTS', members, me) == 0 then
  return { 'overtaken' }
end
redis.call('HSET', heard, me, number(now))
redis.call('HSET', meta, 'steady', number(math.max(steady_now() or steady, steady)), 'steady_at', number(now))
local told = { 'ok', number(now) }
local all = redis.call('HGETALL', members)
for n = 1, #all, 2 do
  local silent = silence(all[n])
  if silent and silent < patience then
    told[#told + 1] = all[n]
    told[#told + 1] = string.match(all[n + 1], ' (.*)$')
    told[#told + 1] = number(silent)
  else
    drop(all[n])
  end
end
return told
