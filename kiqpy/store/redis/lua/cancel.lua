-- cancel: mark a job as cancelled, for the process that has claimed it or will claim it.
-- KEYS  1 kiq:cancels
-- ARGV  1 jid  2 "+" (keep it in the dead set) | "-" (delete it)  3 how long marks are kept, in s
-- atomic because a job has only one mark, and readers read marks in the order of their times.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
-- Later than every other mark, because a reader asks for marks after the last one it has read.
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local at = math.max(now, (tonumber(last) or 0) + 0.000001)
for _, mark in ipairs({'+', '-', '='}) do
  if mark ~= ARGV[2] then redis.call('ZREM', KEYS[1], mark .. ARGV[1]) end
end
redis.call('ZADD', KEYS[1], string.format('%.6f', at), ARGV[2] .. ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', now - tonumber(ARGV[3])))
redis.call('PEXPIRE', KEYS[1], string.format('%d', tonumber(ARGV[3]) * 1000))
