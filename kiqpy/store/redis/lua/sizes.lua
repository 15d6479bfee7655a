-- sizes: the lengths of queues and sets; changes nothing.
-- KEYS  lists and sorted sets
-- returns the length of each key; 0 for a key of another type
-- atomic because a job that moves meanwhile must not be counted twice.
local sizes = {}
for i, key in ipairs(KEYS) do
  local is = redis.call('TYPE', key).ok
  sizes[i] = (is == 'list' and redis.call('LLEN', key)) or (is == 'zset' and redis.call('ZCARD', key)) or 0
end
return sizes
