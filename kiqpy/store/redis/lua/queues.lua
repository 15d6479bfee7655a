-- queues: the length and the oldest job of each queue; changes nothing.
-- KEYS  1 paused  2.. queue lists, up to 100
-- ARGV  the queues' names
-- returns {now, then for each queue: length, oldest job | false, paused 0|1}
-- atomic because the ages of all jobs count from the same instant.
local time = redis.call('TIME')
local reply = {time[1] .. string.format('.%06d', time[2])}
for i, name in ipairs(ARGV) do
  local key = KEYS[1 + i]
  local list = redis.call('TYPE', key).ok == 'list'
  reply[#reply + 1] = list and redis.call('LLEN', key) or 0
  reply[#reply + 1] = list and redis.call('LINDEX', key, -1)
  reply[#reply + 1] = redis.call('SISMEMBER', KEYS[1], name)
end
return reply
