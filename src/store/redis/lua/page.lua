-- A page of shares, newest made first. Looks at so many at the most and says where it stopped.
local limit, steps, skip = tonumber(take()), tonumber(take()), tonumber(take())
local outcome, closed, text, since, till, before = take(), take(), take(), take(), take(), take()
local known = redis.call('HMGET', p .. 'meta', 'least_skew', 'most_skew')
local top, bottom = '+inf', '-inf'
-- The order is that of the steady clock. What is asked of the wall clock bounds it as well, by how far the two ever were apart.
if since ~= '' and known[2] then
  bottom = number(tonumber(since) - tonumber(known[2]))
end
if till ~= '' and known[1] then
  top = number(tonumber(till) - tonumber(known[1]))
end
local last = nil
if before ~= '' then
  last = redis.call('ZSCORE', p .. 'by_age', before)
  if not last then
    return { '0' }
  end
  if top == '+inf' or tonumber(last) < tonumber(top) then
    top = last
  end
end

local found = {}
local function look(id, score)
  if last and tonumber(score) == tonumber(last) and id >= before then
    return
  end
  if closed == '1' and redis.call('ZSCORE', p .. 'watched', id) then
    return
  end
  if text ~= '' or since ~= '' or till ~= '' then
    local made, path = string.match(redis.call('HGET', p .. 'cards', id), '^(%S+) (.*)$')
    if since ~= '' and tonumber(made) < tonumber(since) or till ~= '' and tonumber(made) >= tonumber(till) then
      return
    end
    if text ~= '' and not string.find(path, text, 1, true) then
      return
    end
  end
  found[#found + 1] = string.match(redis.call('GET', p .. 'share:' .. id), '\n(.*)$')
end

if closed == '0' then
  -- Of the living there are not many.
  local living = {}
  for _, id in ipairs(redis.call('ZRANGE', p .. 'watched', 0, -1)) do
    local score = redis.call('ZSCORE', p .. 'by_age', id)
    if score and (top == '+inf' or tonumber(score) <= tonumber(top)) and (bottom == '-inf' or tonumber(score) >= tonumber(bottom)) then
      living[#living + 1] = { id, tonumber(score) }
    end
  end
  table.sort(living, function(a, b)
    return a[2] > b[2] or a[2] == b[2] and a[1] > b[1]
  end)
  for _, one in ipairs(living) do
    if #found >= limit then
      break
    end
    look(one[1], one[2])
  end
  return { '0', unpack(found) }
end

local index = p .. (outcome ~= '' and 'outcome:' .. outcome or 'by_age')
local rank = skip
if rank == 0 and top ~= '+inf' then
  rank = redis.call('ZCOUNT', index, '(' .. top, '+inf')
end
local stop = rank + steps
while #found < limit and rank < stop do
  local some = redis.call('ZREVRANGE', index, rank, rank + 99, 'WITHSCORES')
  for n = 1, #some, 2 do
    if bottom ~= '-inf' and tonumber(some[n + 1]) < tonumber(bottom) or #found >= limit then
      return { '0', unpack(found) }
    end
    look(some[n], some[n + 1])
    rank = rank + 1
  end
  if #some < 200 then
    return { '0', unpack(found) }
  end
end
return { #found >= limit and '0' or number(rank), unpack(found) }
