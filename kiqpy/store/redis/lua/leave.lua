-- leave: a process stops. Its entries in kiq:privs stay for a while, because a late command of the
-- process may still put a job into its inbox, and rescuers look only where kiq:privs says.
-- KEYS  1 lease  2 IDENT hash  3 processes  4 IDENT:work  5 IDENT:workers
-- ARGV  1 IDENT
-- atomic because a process is in the list with a lease, or has neither.
redis.call('DEL', KEYS[1], KEYS[2], KEYS[4], KEYS[5])
redis.call('SREM', KEYS[3], ARGV[1])
return 1
