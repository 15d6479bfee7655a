-- register: set the mark of a periodic to now, if it has none, or if it is too far ahead: then the
-- server's clock was wrong, and nothing would be due until that time.
-- KEYS  1 kiq:cron
-- ARGV  1 seconds that are too far ahead  2.. names
-- returns how many marks were set
-- atomic because a mark that another process has set must not be overwritten.
local time = redis.call('TIME')
local now, noted = tonumber(time[1]), 0
for i = 2, #ARGV do
  local mark = redis.call('HGET', KEYS[1], ARGV[i])
  if not mark or math.abs(tonumber(mark)) > now + tonumber(ARGV[1]) then
    redis.call('HSET', KEYS[1], ARGV[i], '-' .. time[1] .. string.format('.%06d', time[2]))
    noted = noted + 1
  end
end
return noted
