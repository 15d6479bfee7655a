-- unlock: free the locks of unique jobs that are about to start.
-- KEYS  locks
-- ARGV  the owner of each: a jid, or "" for Kiq's, whose value is a number of ms
-- returns how many were freed
-- atomic because a lock that has passed to a newer job must not be freed.
local freed = 0
for i = 1, #KEYS do
  local holder = redis.pcall('GET', KEYS[i])  -- of another type: no job's
  holder = type(holder) == 'string' and holder
  local nobody = ARGV[i] == '' and holder and #holder < 16 and holder:match('^%d+$')
  if holder and (holder == ARGV[i] or nobody) then freed = freed + redis.call('DEL', KEYS[i]) end
end
return freed
