if head() ~= expected then
  local there = redis.call('XRANGE', p .. 'audit', line.seq .. '-0', line.seq .. '-0')[1]
  if there and there[2][16] == line.hash then
    -- Sent again because its answer was lost: it was written, once.
    return { 'ok' }
  end
  return { 'head', head() }
end
write_line()
return { 'ok' }
