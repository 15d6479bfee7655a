-- register: set the mark of a periodic to now, if it has none, if it belongs to another schedule,
-- or if it is too far ahead: then the server's clock was wrong, and no tick would be due until then.
-- KEYS  1 kiq:cron  2 kiq:cron:schedule
-- ARGV  1 seconds that are too far ahead  2.. name and schedule of each
-- returns how many marks were set
-- atomic because a mark that another process has set must not be overwritten.
local time = redis.call('TIME')
local now, set = tonumber(time[1]), 0
for i = 2, #ARGV - 1, 2 do
  local name, schedule = ARGV[i], ARGV[i + 1]
  local mark, of = redis.call('HGET', KEYS[1], name), redis.call('HGET', KEYS[2], name)
  local ahead = mark and math.abs(tonumber(mark)) > now + tonumber(ARGV[1])
  if not mark or ahead or (of and of ~= schedule) then
    redis.call('HSET', KEYS[1], name, '-' .. time[1] .. string.format('.%06d', time[2]))
    set = set + 1
  end
  if of ~= schedule then redis.call('HSET', KEYS[2], name, schedule) end
end
return set
