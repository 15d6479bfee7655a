-- resign: be the leader no longer.
-- KEYS  1 kiq:leader, of a group kiq:leader:GROUP
-- ARGV  1 IDENT
-- returns 1 if it was the leader, else 0
-- atomic because another one's leadership must be left alone.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
