-- claimed: find texts in the jobs that processes hold; changes nothing.
-- KEYS  private hashes and inboxes
-- ARGV  1 number of the key to begin with  2 cursor in that key ("0": begin)  3.. texts
-- returns {number of the next key | 0 at the end, cursor in it,
--          then for each match: number of its key, payload}
-- Need not be atomic. It ends after a page of about 4 MiB of payloads or 10,000 jobs.
local MAX_JOBS, MAX_BYTES = 10000, 4194304
local number, cursor = tonumber(ARGV[1]), ARGV[2]
local reply, jobs, bytes = {0, '0'}, 0, 0

local function look(raw)
  jobs = jobs + 1
  bytes = bytes + #raw
  for i = 3, #ARGV do
    if string.find(raw, ARGV[i], 1, true) then
      reply[#reply + 1] = number
      reply[#reply + 1] = raw
      return
    end
  end
end

while number <= #KEYS and jobs < MAX_JOBS and bytes < MAX_BYTES do
  local kind = redis.call('TYPE', KEYS[number]).ok
  if kind == 'hash' then
    local page = redis.call('HSCAN', KEYS[number], cursor, 'COUNT', 100)
    cursor = page[1]
    for i = 2, #page[2], 2 do look(page[2][i]) end
  elseif kind == 'list' then  -- an inbox holds one job at most
    for _, raw in ipairs(redis.call('LRANGE', KEYS[number], 0, 9)) do look(raw) end
  end
  if kind ~= 'hash' or cursor == '0' then number, cursor = number + 1, '0' end
end
if number <= #KEYS then reply[1], reply[2] = number, cursor end
return reply
