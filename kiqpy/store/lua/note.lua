-- note: count a periodic's ticks from now on, if it was never seen, or if its mark lies more than
--       an hour ahead: then the server's clock was wrong, and nothing would be due until that time.
-- KEYS  1 kiq:cron
-- ARGV  names
-- returns how many were noted
-- atomic because a mark that another process has set must not be lost.
local time = redis.call('TIME')
local now, noted = tonumber(time[1]), 0
for i = 1, #ARGV do
  local mark = redis.call('HGET', KEYS[1], ARGV[i])
  if not mark or math.abs(tonumber(mark)) > now + 3600 then
    redis.call('HSET', KEYS[1], ARGV[i], '-' .. time[1] .. string.format('.%06d', time[2]))
    noted = noted + 1
  end
end
return noted
