-- switch: enable or disable a periodic.
-- KEYS  1 kiq:cron  2 kiq:cron:off
-- ARGV  1 name  2 off 0|1  3 off as declared 0|1
-- returns 1, or 0 if it was so already
-- atomic because ticks count from the instant of enabling; those that were due before are skipped.
local name, off, declared = ARGV[1], ARGV[2], ARGV[3]
if (redis.call('HGET', KEYS[2], name) or declared) == off then return 0 end
if off == '0' then
  local time = redis.call('TIME')
  local mark = math.abs(tonumber(redis.call('HGET', KEYS[1], name) or '0'))
  if mark < tonumber(time[1]) then
    redis.call('HSET', KEYS[1], name, '-' .. time[1] .. string.format('.%06d', time[2]))
  end
end
if off == declared then
  redis.call('HDEL', KEYS[2], name)
else
  redis.call('HSET', KEYS[2], name, off)
end
return 1
