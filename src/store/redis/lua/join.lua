local folder, name, most = take(), take(), tonumber(take())
local former = redis.call('HGET', folders, folder)
local known = former and redis.call('HGET', members, former)
if known and string.match(known, '^%S+') ~= folder then
  -- Its number went to somebody else, after it had been silent for long.
  former = nil
elseif former then
  drop(former)
end
local numbered = tonumber(redis.call('HGET', meta, 'last_number') or '0')
local tries = 0
repeat
  numbered = numbered % most + 1
  tries = tries + 1
until redis.call('HEXISTS', members, numbered) == 0 or tries > most
if tries > most then
  return { 'full' }
end
local me = number(numbered)
redis.call('HSET', meta, 'last_number', me)
redis.call('HSET', members, me, folder .. ' ' .. name)
redis.call('HSET', heard, me, number(now))
redis.call('HSET', folders, folder, me)
local steady = steady_now()
if steady then
  steady = number(math.max(steady, tonumber(redis.call('HGET', meta, 'latest_steady') or '0')))
end
return { 'ok', me, former or '', steady or '' }
