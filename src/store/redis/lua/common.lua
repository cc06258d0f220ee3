-- What every script begins with. KEYS[1] tells a Cluster where to go; all other keys have the same hash tag.
local p = ARGV[1]
local place = 1
local function take()
  place = place + 1
  return ARGV[place]
end
-- Exact up to 2^53, as every number here is: no exponent, no fraction.
local function number(n)
  return string.format('%.0f', n)
end
local function millis()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end
local HEADER = '^(%d+) (%d+) (%d+) (%S+) (%d+) (%S+)([^\n]*)\n'
