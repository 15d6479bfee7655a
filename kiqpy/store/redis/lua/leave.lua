-- leave: a process stops. Its queues stay in kiq:privs for a while: a late command of its own
-- may still put a job into an inbox, and somebody must look there.
-- KEYS  1 lease  2 IDENT hash  3 processes  4 IDENT:work  5 IDENT:workers
-- ARGV  1 IDENT
-- atomic because a process is a member with a lease, or neither.
redis.call('DEL', KEYS[1], KEYS[2], KEYS[4], KEYS[5])
redis.call('SREM', KEYS[3], ARGV[1])
return 1
