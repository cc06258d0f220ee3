-- Takes what lives from watchers that are gone. Each share of it gets another fence, and what its former watcher still does is refused.
local me, patience, limit, write = take(), tonumber(take()), tonumber(take()), take()
local taken = { 'ok' }
local watcher = -1
while limit > 0 do
  local next = redis.call('ZRANGEBYSCORE', p .. 'watched', '(' .. number(watcher), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if not next[1] then
    break
  end
  watcher = tonumber(next[2])
  local silent = silence(number(watcher))
  if number(watcher) ~= me and (not silent or silent >= patience) then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', p .. 'watched', number(watcher), number(watcher), 'LIMIT', 0, limit)) do
      local key = p .. 'share:' .. id
      local old = redis.call('GET', key)
      local version, _, fence, _, first, state, links = string.match(old, HEADER)
      local header = { number(tonumber(version) + 1), me, number(tonumber(fence) + 1), write, first, state }
      redis.call('SET', key, table.concat(header, ' ') .. links .. '\n' .. string.match(old, '\n(.*)$'))
      redis.call('ZADD', p .. 'watched', me, id)
      local news = number(redis.call('HINCRBY', meta, 'news', 1)) .. '-0'
      -- Told to whoever takes it, too: should the answer be lost, it is known all the same.
      redis.call('XADD', p .. 'news', 'MAXLEN', '~', 4096, news, 'b', '0', 's', id, 'n', '0 0')
      taken[#taken + 1] = redis.call('GET', key)
      limit = limit - 1
    end
  end
end
return taken
