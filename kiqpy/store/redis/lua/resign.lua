-- resign: give up leading a group.
-- KEYS  1 kiq:leader, of a group kiq:leader:GROUP
-- ARGV  1 IDENT
-- returns 1 if IDENT was the leader, else 0
-- atomic because the leadership of another process must not be ended.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
