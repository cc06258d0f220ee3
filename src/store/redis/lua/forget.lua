-- Forgets what was over before a time: shares with their links and lines, tallies, notes of times. Bounded by `left`.
local before, left = take(), tonumber(take())
local shares, lines = 0, 0

local function forget_share(id)
  local key = p .. 'share:' .. id
  local _, _, _, _, _, state, links = string.match(redis.call('GET', key), HEADER)
  for name in string.gmatch(links, '%S+') do
    redis.call('DEL', p .. 'link:' .. name)
    left = left - 1
  end
  redis.call('DEL', key)
  redis.call('ZREM', p .. 'by_age', id)
  redis.call('ZREM', p .. 'by_end', id)
  redis.call('ZREM', p .. 'outcome:' .. state, id)
  redis.call('HDEL', p .. 'cards', id)
  redis.call('SET', p .. 'forgetting', id)
  shares = shares + 1
  left = left - 1
  local news = number(redis.call('HINCRBY', p .. 'meta', 'news', 1)) .. '-0'
  redis.call('XADD', p .. 'news', 'MAXLEN', '~', 4096, news, 'b', '0', 's', id, 'n', '0 0')
end

-- Removes lines of a share; returns whether none is left.
local function forget_lines(id)
  local key = p .. 'lines:' .. id
  local all = redis.call('GET', key) or ''
  local at = 1
  while left > 0 do
    local first, last, seq = string.find(all, '^(%d+),', at)
    if not first then
      redis.call('DEL', key)
      return true
    end
    local entry = redis.call('XRANGE', p .. 'events', seq .. '-0', seq .. '-0')[1]
    if entry then
      redis.call('XDEL', p .. 'events', seq .. '-0')
      redis.call('XDEL', p .. 'kind:' .. string.match(entry[2][6], '^{"type":"([^"]+)"'), seq .. '-0')
      lines = lines + 1
    end
    at = last + 1
    left = left - 1
  end
  redis.call('SET', key, string.sub(all, at))
  return false
end

while left > 0 do
  local id = redis.call('GET', p .. 'forgetting')
  if not id then
    id = redis.call('ZRANGEBYSCORE', p .. 'by_end', '-inf', '(' .. before, 'LIMIT', 0, 1)[1]
    if not id then
      break
    end
    forget_share(id)
  end
  if forget_lines(id) then
    redis.call('DEL', p .. 'forgetting')
  end
end
for _ = 1, tonumber(take()) do
  local series, kept = take(), take()
  local days = p .. 'days:' .. series
  if left > 0 then
    for _, day in ipairs(redis.call('ZRANGEBYSCORE', days, '-inf', '(' .. kept, 'LIMIT', 0, left)) do
      redis.call('DEL', p .. 'tally:' .. series .. ':' .. day)
      redis.call('ZREM', days, day)
      left = left - 1
    end
  end
end
if left > 0 then
  -- But for the newest note: the next one must lie behind every line.
  local newest = redis.call('ZREVRANGE', p .. 'times', 0, 0)[1]
  for _, seq in ipairs(redis.call('ZRANGEBYSCORE', p .. 'times', '-inf', '(' .. before, 'LIMIT', 0, left)) do
    if seq ~= newest then
      redis.call('ZREM', p .. 'times', seq)
      left = left - 1
    end
  end
end
return { 'ok', number(shares), number(lines), number(math.max(left, 0)) }
