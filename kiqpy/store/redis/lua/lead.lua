-- lead: become or remain the leader of a group.
-- uses: room
-- KEYS  1 kiq:leader, of a group kiq:leader:GROUP
-- ARGV  1 IDENT  2 ttl in ms
-- returns 1 if IDENT is the leader now, else 0
-- atomic because only the leader may extend its own time.
local leader = redis.call('GET', KEYS[1])
if leader == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if leader then return 0 end
make_room(KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
