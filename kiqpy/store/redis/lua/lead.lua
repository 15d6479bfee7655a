-- lead: become the leader, or remain it.
-- KEYS  1 kiq:leader, of a group kiq:leader:GROUP
-- ARGV  1 IDENT  2 ttl in ms
-- returns 1 if IDENT is the leader now, else 0
-- atomic because only the one who holds it may prolong it.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
