-- clear: delete a set, or a queue with its name.
-- KEYS  1 set or queue  2 queues
-- ARGV  1 the queue's name | "" for a set
-- returns how many entries were deleted
-- atomic because it returns exactly what it deletes, and because a queue and its name go together.
local is = redis.call('TYPE', KEYS[1]).ok
local count = (is == 'list' and redis.call('LLEN', KEYS[1])) or (is == 'zset' and redis.call('ZCARD', KEYS[1])) or 0
if ARGV[1] ~= '' then redis.call('SREM', KEYS[2], ARGV[1]) end
redis.call('UNLINK', KEYS[1])
return count
