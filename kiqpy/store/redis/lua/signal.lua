-- signal: leave a signal's name for a process's next heartbeat.
-- KEYS  1 IDENT hash  2 IDENT-signals
-- ARGV  1 name
-- returns 1; 0 if there is no such process
-- atomic because a signal that no process fetches must expire.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('EXPIRE', KEYS[2], 60)  -- a full server allows what follows
redis.call('LPUSH', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], 60)
return 1
