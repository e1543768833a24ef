-- The requests of one key in the last minute: see jobs/access/limits.py.

local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])

local function came(place)
  return tonumber(redis.call('LINDEX', KEYS[1], place))
end

-- They lie in their order, so the first one that still counts is found by halving.
local count = redis.call('LLEN', KEYS[1])
if count > 0 and came(0) <= now - window then
  local low, high = 1, count
  while low < high do
    local middle = math.floor((low + high) / 2)
    if came(middle) <= now - window then
      low = middle + 1
    else
      high = middle
    end
  end
  redis.call('LTRIM', KEYS[1], low, -1)
  count = count - low
end

local passes = count < limit
if passes then
  redis.call('RPUSH', KEYS[1], integer(now))
  redis.call('PEXPIRE', KEYS[1], window)
  count = count + 1
end
return {passes and 1 or 0, limit - count, came(0) + window - now}
