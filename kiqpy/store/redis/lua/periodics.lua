-- periodics: the marks, switches and schedules of periodics; changes nothing.
-- KEYS  1 kiq:cron  2 kiq:cron:off  3 kiq:cron:schedule
-- ARGV  names
-- returns {now, {mark | false for each name}, {"1" off | "0" on | false for each name},
--       {schedule | false for each name}}
-- atomic because the caller compares marks with "now".
local time = redis.call('TIME')
local marks, switched, schedules = {}, {}, {}
for i = 1, #ARGV do
  marks[i] = redis.call('HGET', KEYS[1], ARGV[i])
  switched[i] = redis.call('HGET', KEYS[2], ARGV[i])
  schedules[i] = redis.call('HGET', KEYS[3], ARGV[i])
end
return {time[1] .. string.format('.%06d', time[2]), marks, switched, schedules}
