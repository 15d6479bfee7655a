-- withdraw: have a frame of jobs not be stored, also if it arrives later. The twin of push.
-- KEYS  1 kiq:push:CLIENT (hash: seq, reply)
-- ARGV  1 sequence
-- returns "withdrawn"; or, if the frame was stored before, what push returns for it again
-- atomic because the frame may arrive at any instant, and must be either stored or withdrawn.
local notes, sequence = KEYS[1], tonumber(ARGV[1])
local last = tonumber(redis.call('HGET', notes, 'seq') or '0')
if sequence == last then
  local note = redis.call('HGET', notes, 'reply')
  if note == 'withdrawn' then return note end
  local reply = cjson.decode(note)
  table.insert(reply, 1, 'again')
  return reply
end
if sequence < last then
  return redis.error_reply('SEQUENCE ' .. sequence .. ' came after ' .. last)
end
redis.call('HSET', notes, 'seq', sequence, 'reply', 'withdrawn')
redis.call('PEXPIRE', notes, 2592000000)
return 'withdrawn'
