-- suspect: whether a process is dead. It must lack its lease three times within the suspicion time:
-- after an outage of the server, live processes lack theirs too, until their next heartbeats.
-- uses: room
-- KEYS  1 lease  2 kiq:suspects  3 private hash  4 inbox  5 kiq:privs
-- ARGV  1 IDENT|QUEUE  2 suspicion in ms  3 how long to look after a dead one without jobs, in ms
--       4 proof 0|1: the caller knows that the process is dead (same host, its lock is free)
-- returns "alive" | "suspect" | "confirmed" | "empty" (confirmed, and nothing to rescue)
-- atomic because lease and mark must be of the same instant.
if ARGV[4] == '1' then redis.call('DEL', KEYS[1]) end
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HDEL', KEYS[2], ARGV[1])
  return 'alive'
end
make_room(KEYS[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local grace = tonumber(ARGV[2])
local mark = redis.call('HGET', KEYS[2], ARGV[1])
local count, first, last = 0, now, now
if mark then
  count, first, last = mark:match('^(%d+) (%d+) (%d+)$')
  count, first, last = tonumber(count), tonumber(first), tonumber(last)
  if now - last > grace then count, first = 0, now end  -- no process has looked since: start again
end
count = count + 1
if ARGV[4] == '1' then
  count, first = math.max(count, 3), math.min(first, now - grace)
end
redis.call('HSET', KEYS[2], ARGV[1], string.format('%d %d %d', count, first, now))
if count < 3 or now - first < grace then return 'suspect' end
if redis.call('HLEN', KEYS[3]) > 0 or redis.call('LLEN', KEYS[4]) > 0 then return 'confirmed' end
if now - first >= tonumber(ARGV[3]) then
  redis.call('SREM', KEYS[5], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
end
return 'empty'
