-- lead: become or remain the leader of a group.
-- KEYS  1 kiq:leader, of a group kiq:leader:GROUP
-- ARGV  1 IDENT  2 ttl in ms
-- returns 1 if IDENT is the leader now, else 0
-- atomic because only the leader may extend its own time.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
