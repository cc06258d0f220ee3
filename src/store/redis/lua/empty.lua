-- Sets aside what is to be read as a whole: from here on nobody writes a share. Not while anybody sees to them.
local mark, patience = take(), tonumber(take())
local aside = redis.call('HGET', meta, 'aside')
if aside and aside ~= mark then
  return { 'aside', aside }
end
local all = redis.call('HGETALL', members)
for n = 1, #all, 2 do
  local silent = silence(all[n])
  if silent and silent < patience then
    return { 'heard', string.match(all[n + 1], ' (.*)$') }
  end
end
redis.call('HSET', meta, 'aside', mark)
return { 'ok' }
