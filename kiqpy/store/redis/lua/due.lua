-- due: the due members of sorted sets; changes nothing.
-- uses: types
-- KEYS  schedule, retry, or both: an idle process asks once a second for both together
-- ARGV  1 how many members of each
-- returns {now, for each key {next score not yet due | false, due members...}, or a text: why it
--       can't be read}; fewer members if they are large, one at least
-- atomic because what is due depends on "now".
local MAX_BYTES = 1048576  -- of each set: they come back with new bytes, and others wait meanwhile
local FIRST = 8  -- members looked at before it is known how large they are
local time = redis.call('TIME')
local now = time[1] .. string.format('.%06d', time[2])
local limit = tonumber(ARGV[1])

local function due(key, found)
  local bytes, step = 0, math.min(FIRST, limit)
  while step > 0 do
    local seen = #found - 1
    local members = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', seen, step)
    for i = 1, #members do
      bytes = bytes + #members[i]
      if #found > 1 and bytes > MAX_BYTES then return found end
      found[#found + 1] = members[i]
    end
    if #members < step then return found end
    seen = seen + step
    local room = math.floor((MAX_BYTES - bytes) / math.max(1, bytes / seen))
    step = math.min(limit - seen, math.max(1, room))
  end
  return found
end

local reply = {now}
for _, key in ipairs(KEYS) do
  local upcoming = redis.pcall('ZRANGEBYSCORE', key, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if upcoming.err then
    reply[#reply + 1] = 'WRONGTYPE ' .. key .. ' holds a ' .. (misfit(key, 'zset') or '?')
  else
    reply[#reply + 1] = due(key, {upcoming[2] or false})
  end
end
return reply
