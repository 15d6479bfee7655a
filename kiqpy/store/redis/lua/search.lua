-- search: find texts in one page of a set or a queue; changes nothing.
-- KEYS  1 set or queue
-- ARGV  1 cursor ("": begin)  2 how many entries to compare  3.. texts
-- returns {next cursor | "" at the end, how many entries were compared,
--          then for each match: member, score | false}
-- Goes through a queue from its newest job, so a push makes it find a job twice, never miss one.
-- Need not be atomic. It ends after its page, or after about 4 MiB of payloads.
local kind = redis.call('TYPE', KEYS[1]).ok
local cursor, count = ARGV[1], tonumber(ARGV[2])
local reply, bytes, looked = {'', 0}, 0, 0
local step = math.min(count, 100)

local function look(member, score)
  looked = looked + 1
  bytes = bytes + #member
  for i = 3, #ARGV do
    if string.find(member, ARGV[i], 1, true) then
      reply[#reply + 1] = member
      reply[#reply + 1] = score
      return
    end
  end
end

if kind == 'zset' then
  cursor = cursor == '' and '0' or cursor
  repeat
    local page = redis.call('ZSCAN', KEYS[1], cursor, 'COUNT', step)
    cursor = page[1]
    for i = 1, #page[2], 2 do look(page[2][i], page[2][i + 1]) end
  until cursor == '0' or looked >= count or bytes > 4194304
  if cursor == '0' then cursor = '' end
elseif kind == 'list' then
  local at, size = tonumber(cursor) or 0, redis.call('LLEN', KEYS[1])
  repeat
    local page = redis.call('LRANGE', KEYS[1], at, at + step - 1)
    for i = 1, #page do look(page[i], false) end
    at = at + #page
  until at >= size or looked >= count or bytes > 4194304
  cursor = at < size and string.format('%d', at) or ''
else
  cursor = ''
end
reply[1], reply[2] = cursor, looked
return reply
