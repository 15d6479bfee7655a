-- due: look at what a sorted set has due; changes nothing.
-- KEYS  1 schedule | retry
-- ARGV  1 how many
-- returns {now, next score not yet due | false, due members...}
-- atomic because "due" and "now" must be of the same instant.
local time = redis.call('TIME')
local now = time[1] .. string.format('.%06d', time[2])
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local upcoming = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local reply = {now, upcoming[2] or false}
for i = 1, #members do reply[#reply + 1] = members[i] end
return reply
