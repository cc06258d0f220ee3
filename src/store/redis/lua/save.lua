-- One decision: checks all of it, then writes all of it.
local id, write, by, version, fence, takes = take(), take(), take(), take(), take(), take() == '1'
local state, ended_ms, jti, uses_max = take(), take(), take(), take()
local wall, steady, created, made, card, body = take(), take(), take(), take(), take(), take()
local facts = {}
for n = 1, tonumber(take()) do
  facts[n] = { rule = take(), kind = take(), body = take() }
end

local meta = p .. 'meta'
local key = p .. 'share:' .. id
local old = redis.call('GET', key)
if redis.call('HEXISTS', meta, 'aside') == 1 then
  -- It was moved into another store, or is being moved: whoever slept meanwhile does nothing here any more.
  return { 'overtaken' }
end
local stands = { version = '0', watcher = by, fence = '1', state = '', links = '' }
if old then
  local v, w, f, last, first, s, l = string.match(old, HEADER)
  if last == write then
    -- Sent again because its answer was lost: it was written, once. Whoever waits for replicas waits for something of this connection.
    redis.call('HINCRBY', p .. 'meta', 'again', 1)
    return { 'ok', first, v, w, f }
  end
  stands = { version = v, watcher = w, fence = f, state = s, links = l }
end
if fence ~= '' and (not old or stands.fence ~= fence) then
  return { 'overtaken' }
end
if version ~= '' and stands.version ~= version then
  return { 'conflict' }
end

-- The ledger: what is refused must not have touched it, so it is worked on as a copy.
local links = {}
local function link_of(name)
  if links[name] == nil then
    local row = redis.call('GET', p .. 'link:' .. name)
    if row then
      local max, spent, dead, of = string.match(row, '^(%d+) (%d+) (%d) (%S+)$')
      links[name] = { max = tonumber(max), spent = tonumber(spent), dead = dead == '1', of = of }
    else
      links[name] = false
    end
  end
  return links[name]
end
for _, fact in ipairs(facts) do
  local rule = fact.rule
  if rule == 'created' and old then
    return { 'exists' }
  end
  if rule == 'created' or rule == 'entered' then
    if link_of(jti) then
      return { 'entered' }
    end
    links[jti] = { max = tonumber(uses_max), spent = 0, dead = false, of = id }
    stands.links = stands.links .. ' ' .. jti
  elseif rule == 'undone' then
    local link = link_of(jti)
    if not link or not link.dead or link.spent >= link.max then
      return { 'spent' }
    end
    link.dead = false
  elseif rule == 'redeemed' then
    -- The compare-and-set that makes a link single-use.
    local link = link_of(jti)
    if not link or link.dead or link.spent >= link.max then
      return { 'spent' }
    end
    link.spent = link.spent + 1
  elseif rule == 'given_back' then
    local link = link_of(jti)
    if link and link.spent > 0 then
      link.spent = link.spent - 1
    end
  elseif rule == 'closing' then
    for name in string.gmatch(stands.links, '%S+') do
      local link = link_of(name)
      if link then
        link.dead = true
      end
    end
  end
end
if line and head() ~= expected then
  return { 'head', head() }
end

write_line()
for name, link in pairs(links) do
  if link then
    local row = number(link.max) .. ' ' .. number(link.spent) .. ' ' .. (link.dead and '1' or '0') .. ' ' .. link.of
    redis.call('SET', p .. 'link:' .. name, row)
  end
end

-- The event log, and the indexes of it.
local known = redis.call('HMGET', meta, 'seq', 'latest_wall', 'latest_steady', 'least_skew', 'most_skew')
local last = tonumber(known[1] or '0')
local first = number(last + 1)
if #facts > 0 then
  local mine = {}
  for _, fact in ipairs(facts) do
    last = last + 1
    local seq = number(last) .. '-0'
    redis.call('XADD', p .. 'events', seq, 'a', wall, 's', id, 'f', fact.body)
    redis.call('XADD', p .. 'kind:' .. fact.kind, seq, '', '')
    redis.call('SADD', p .. 'kinds', fact.kind)
    mine[#mine + 1] = number(last) .. ','
  end
  redis.call('APPEND', p .. 'lines:' .. id, table.concat(mine))
  redis.call('HSET', meta, 'seq', number(last))
  if not known[2] or tonumber(wall) > tonumber(known[2]) then
    redis.call('HSET', meta, 'latest_wall', wall)
    -- Where in the log a time first came: noted every few minutes, or every so many lines.
    local note = redis.call('ZREVRANGE', p .. 'times', 0, 0, 'WITHSCORES')
    if not note[1] or tonumber(wall) >= tonumber(note[2]) + 600000 or tonumber(first) >= tonumber(note[1]) + 128 then
      redis.call('ZADD', p .. 'times', wall, first)
    end
  end
end
for _ = 1, tonumber(take()) do
  local series, day, most, name, times, bytes = take(), take(), take(), take(), take(), take()
  local tally = p .. 'tally:' .. series .. ':' .. day
  if redis.call('HEXISTS', tally, 't' .. name) == 0 then
    redis.call('ZADD', p .. 'days:' .. series, day, day)
    if most ~= '' and tonumber(redis.call('HGET', tally, 'n') or '0') >= tonumber(most) then
      name = ''
    else
      redis.call('HINCRBY', tally, 'n', 1)
    end
  end
  for field, more in pairs({ t = times, b = bytes }) do
    -- Fails only where the sum is past the largest number.
    if (field == 't' or more ~= '0') and type(redis.pcall('HINCRBY', tally, field .. name, more)) == 'table' then
      redis.call('HSET', tally, field .. name, '9223372036854775807')
    end
  end
end
if not known[3] or tonumber(steady) > tonumber(known[3]) then
  redis.call('HSET', meta, 'latest_steady', steady)
end

-- The share, and the indexes of it.
if takes then
  if old then
    stands.fence = number(tonumber(stands.fence) + 1)
  end
  stands.watcher = by
end
stands.version = number(tonumber(stands.version) + 1)
local header = { stands.version, stands.watcher, stands.fence, write, first, state }
redis.call('SET', key, table.concat(header, ' ') .. stands.links .. '\n' .. body)
if not old then
  if redis.call('GET', p .. 'forgetting') == id then
    -- One that is opened again while it is being forgotten is not forgotten after all.
    redis.call('DEL', p .. 'forgetting')
  end
  -- A self-test has no card, and is in no page.
  if card ~= '' then
    redis.call('ZADD', p .. 'by_age', created, id)
    redis.call('HSET', p .. 'cards', id, made .. ' ' .. card)
    local skew = tonumber(made) - tonumber(created)
    if not known[4] or skew < tonumber(known[4]) then
      redis.call('HSET', meta, 'least_skew', number(skew))
    end
    if not known[5] or skew > tonumber(known[5]) then
      redis.call('HSET', meta, 'most_skew', number(skew))
    end
  end
end
if state ~= stands.state or takes then
  local outcome = string.match(stands.state, '^[a-z_]+$')
  if outcome then
    redis.call('ZREM', p .. 'outcome:' .. outcome, id)
    redis.call('ZREM', p .. 'by_end', id)
  end
  if state == '-' then
    redis.call('ZADD', p .. 'watched', stands.watcher, id)
  else
    redis.call('ZREM', p .. 'watched', id)
    redis.call('ZADD', p .. 'by_end', ended_ms, id)
    if card ~= '' then
      redis.call('ZADD', p .. 'outcome:' .. state, created, id)
    end
  end
end
local news = number(redis.call('HINCRBY', meta, 'news', 1)) .. '-0'
redis.call('XADD', p .. 'news', 'MAXLEN', '~', 4096, news, 'b', by, 's', id, 'n', first .. ' ' .. #facts)
return { 'ok', first, stands.version, stands.watcher, stands.fence }
