-- unlock: free the locks of unique jobs that are about to start.
-- uses: locks
-- KEYS  locks
-- ARGV  the owner of each: a jid, or "" for a lock of Kiq's, whose value is a time in ms
-- returns how many were freed
-- atomic because a lock that a newer job has taken must not be freed.
local freed = 0
for i = 1, #KEYS do
  if owns(KEYS[i], ARGV[i]) then freed = freed + redis.call('DEL', KEYS[i]) end
end
return freed
