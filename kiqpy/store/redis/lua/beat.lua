-- beat: a heartbeat. Renews a process's lease and reports what the store holds for it.
-- KEYS  1 lease  2 IDENT hash  3 processes  4 kiq:privs  5 IDENT-signals  6 kiq:settle:IDENT
--       7 IDENT:work  8 IDENT:workers  9.. per queue: private hash, inbox
-- ARGV  1 IDENT  2 lease in ms  3 number of queues, then their names
--       4+n state ttl in ms  5+n number of fields, then fields and values of the IDENT hash,
--       then fields and values of the work hash
-- returns {signal | false, then for each queue: jobs held, jobs in the inbox}
-- atomic because lease and lists must never contradict each other.
local ident, n = ARGV[1], tonumber(ARGV[3])
-- The first write must be one that a full server allows, or live processes would count as dead.
redis.call('PEXPIRE', KEYS[6], ARGV[4 + n])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[2])
redis.call('SADD', KEYS[3], ident)
for i = 1, n do redis.call('SADD', KEYS[4], ident .. '|' .. ARGV[3 + i]) end
local n_fields = tonumber(ARGV[5 + n])
local fields, work = {}, {}
for i = 6 + n, 5 + n + n_fields do fields[#fields + 1] = ARGV[i] end
for i = 6 + n + n_fields, #ARGV do work[#work + 1] = ARGV[i] end
local time = redis.call('TIME')
redis.call('HSET', KEYS[2], 'beat', time[1] .. string.format('.%06d', time[2]), unpack(fields))
redis.call('EXPIRE', KEYS[2], 60)
for key = 7, 8 do
  redis.call('DEL', KEYS[key])
  if #work > 0 then
    redis.call('HSET', KEYS[key], unpack(work))
    redis.call('EXPIRE', KEYS[key], 60)
  end
end
local reply = {redis.call('RPOP', KEYS[5])}
for i = 1, n do
  reply[#reply + 1] = redis.call('HLEN', KEYS[7 + 2 * i])
  reply[#reply + 1] = redis.call('LLEN', KEYS[8 + 2 * i])
end
return reply
