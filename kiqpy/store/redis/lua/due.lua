-- due: look at what sorted sets have due; changes nothing.
-- KEYS  schedule, retry, or both: an idle process asks once a second, and once for both
-- ARGV  1 how many of each
-- returns {now, {next score not yet due | false, due members...} for each key}
-- atomic because "due" and "now" must be of the same instant.
local time = redis.call('TIME')
local now = time[1] .. string.format('.%06d', time[2])
local reply = {now}
for _, key in ipairs(KEYS) do
  local members = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, ARGV[1])
  local upcoming = redis.call('ZRANGEBYSCORE', key, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local found = {upcoming[2] or false}
  for i = 1, #members do found[#found + 1] = members[i] end
  reply[#reply + 1] = found
end
return reply
