-- The line of the audit log that is to be written: computed on `expected`, the newest line that its writer knows.
local expected = take()
local line = nil
if expected ~= '' then
  line = { head = take(), seq = take(), at = take(), who = take(), from = take(), action = take(), target = take(), detail = take(),
    previous = take(), hash = take() }
end
local function head()
  return redis.call('HGET', p .. 'marks', 'head') or ('0 ' .. string.rep('0', 64))
end
local function write_line()
  if line then
    redis.call('XADD', p .. 'audit', line.seq .. '-0', 'a', line.at, 'w', line.who, 'f', line.from, 'c', line.action, 't', line.target,
      'd', line.detail, 'p', line.previous, 'h', line.hash)
    redis.call('HSET', p .. 'marks', 'head', line.head)
  end
end
