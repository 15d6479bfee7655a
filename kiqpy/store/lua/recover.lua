-- recover: after a fetch without an answer, learn what it did and keep it from happening later.
-- KEYS  1 private hash  2 kiq:settle:IDENT
-- ARGV  1 queue's name  2 first id  3 last id
-- returns per id its payload or false
-- atomic because the floor must rise in the same instant in which the ids are read.
redis.call('HSET', KEYS[2], 'floor|' .. ARGV[1], string.format('%d', ARGV[3] + 1))
local ids = {}
for id = tonumber(ARGV[2]), tonumber(ARGV[3]) do ids[#ids + 1] = string.format('%d', id) end
return redis.call('HMGET', KEYS[1], unpack(ids))
