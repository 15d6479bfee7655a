-- recover: after a fetch without a reply, return what it has claimed, and refuse it from now on.
-- KEYS  1 private hash  2 kiq:settle:IDENT
-- ARGV  1 queue's name  2 first id  3 last id  4 state ttl in ms
-- returns for each id its payload or false
-- atomic because the floor must rise in the instant in which the ids are read. It never sinks: a
-- recovery that arrives late must not allow a fetch that a later recovery has refused.
local MAX_RUN = 1000  -- words that are passed on in one step: Lua's stack has a bound
local floor = tonumber(redis.call('HGET', KEYS[2], 'floor|' .. ARGV[1]) or '1')
floor = string.format('%d', math.max(floor, ARGV[3] + 1))
redis.call('PEXPIRE', KEYS[2], ARGV[4])  -- a full server allows what follows
redis.call('HSET', KEYS[2], 'floor|' .. ARGV[1], floor)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
local found, last = {}, tonumber(ARGV[3])
for first = tonumber(ARGV[2]), last, MAX_RUN do
  local ids = {}
  for id = first, math.min(first + MAX_RUN - 1, last) do ids[#ids + 1] = string.format('%d', id) end
  for _, raw in ipairs(redis.call('HMGET', KEYS[1], unpack(ids))) do found[#found + 1] = raw end
end
return found
