-- held: which jobs a process holds of a queue, and how large they are; changes nothing.
-- KEYS  1 private hash
-- returns {id, bytes} in turn
-- atomic only by being one script: it saves a round trip for each job.
local reply = {}
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  reply[#reply + 1] = id
  reply[#reply + 1] = redis.call('HSTRLEN', KEYS[1], id)
end
return reply
