-- trim: keep the dead set within its limits; called after each step that has buried a job.
-- KEYS  1 dead  2 kiq:trimmed
-- ARGV  1 limit  2 age in s
-- returns how many jobs were deleted; kiq:trimmed counts them, because nothing else is left of them
-- atomic because it counts exactly what it deletes.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]), 'LIMIT', 0, 500)
if #old > 0 then redis.call('ZREM', KEYS[1], unpack(old)) end
local over = math.min(redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[1]), 1000)
if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1) end
local dropped = #old + math.max(over, 0)
if dropped > 0 then redis.call('INCRBY', KEYS[2], dropped) end
return dropped
