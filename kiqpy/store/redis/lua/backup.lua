-- backup: put jobs that begin in a process's memory into its private hash, as if it had claimed them.
-- uses: types
-- KEYS  1 private hash  2 kiq:settle:IDENT  3 lease  4 kiq:privs
--       5 stat:processed  6 stat:failed  7 and 8 the same of the day, 9 and 10 of the queue
--       11.. locks
-- ARGV  1 queue's name  2 sequence  3 state ttl in ms  4 IDENT|QUEUE
--       5 how many jobs have ended without a backup  6 how many of those failed
--       then for each job: id, payload, lock's place after KEYS[10] (0: none), lock ttl in ms, jid
-- returns {"new"|"again", then position and result of each job that was not stored}:
--       "d"..jid: duplicate, jid holds the lock
-- atomic because a backup that arrives late must not bring back a job that was settled meanwhile,
-- and because the reply is kept in the same step, for a frame that is sent again.
local notes, queue, sequence = KEYS[2], ARGV[1], tonumber(ARGV[2])
local noted = redis.call('HMGET', notes, 'kept|' .. queue, 'told|' .. queue)
local last = tonumber(noted[1] or '0')
if sequence == last then
  local reply = cjson.decode(noted[2])
  table.insert(reply, 1, 'again')
  return reply
end
if sequence < last then
  return redis.error_reply('SEQUENCE ' .. sequence .. ' came after ' .. last)
end
if redis.call('EXISTS', KEYS[3]) == 0 then return redis.error_reply('LEASELOST') end
local wrong = wrong_type({[1] = 'hash', [4] = 'set'})
if wrong then return wrong end
-- The first write: a full, read-only or failing server refuses it, before anything has changed.
redis.call('SADD', KEYS[4], ARGV[4])

local reply = {}
for at = 7, #ARGV, 5 do
  local id, payload, lock, ttl, jid = unpack(ARGV, at, at + 4)
  local key = tonumber(lock) > 0 and KEYS[10 + tonumber(lock)]
  if key and not redis.call('SET', key, jid, 'NX', 'PX', ttl) then
    local found = redis.pcall('GET', key)  -- no job owns a key of another type
    reply[#reply + 1] = tostring((at - 7) / 5)
    reply[#reply + 1] = 'd' .. (type(found) == 'string' and found or '?')
  else
    redis.call('HSET', KEYS[1], id, payload)
  end
end
local told = #reply > 0 and cjson.encode(reply) or '[]'
redis.call('HSET', notes, 'kept|' .. queue, sequence, 'told|' .. queue, told)
redis.call('PEXPIRE', notes, ARGV[3])

-- Counters come last, with pcall: a counter of a wrong type must not fail what is done.
for n = 0, 1 do
  local count = tonumber(ARGV[5 + n])
  if count > 0 then
    for key = 5 + n, 9 + n, 2 do redis.pcall('INCRBY', KEYS[key], count) end
    redis.pcall('EXPIRE', KEYS[7 + n], 157680000)
  end
end
table.insert(reply, 1, 'new')
return reply
