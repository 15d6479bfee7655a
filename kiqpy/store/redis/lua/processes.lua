-- processes: fields of processes' hashes; changes nothing.
-- KEYS  IDENT hashes, up to 100
-- ARGV  names of fields
-- returns for each process the values of these fields, all in one flat list
-- Need not be atomic; it saves a round trip for each process.
local reply = {}
for _, key in ipairs(KEYS) do
  local values = redis.call('HMGET', key, unpack(ARGV))
  for i = 1, #ARGV do reply[#reply + 1] = values[i] end
end
return reply
