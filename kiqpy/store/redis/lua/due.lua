-- due: the due members of sorted sets; changes nothing.
-- KEYS  schedule, retry, or both: an idle process asks once a second for both together
-- ARGV  1 how many members of each
-- returns {now, {next score not yet due | false, due members...} for each key}
-- atomic because what is due depends on "now".
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
