-- transfer: move or delete entries of a set or a queue that are still where they were seen.
-- KEYS  1 set or queue  2 dead  3 queues  4 kiq:cancels  5.. queue lists, then locks
-- ARGV  1 "set" | "queue"  2 number of queues, then their names,
--       then per entry: member, "queue" | "dead" | "away", new bytes, jid, queue index | 0,
--       lock index | 0, the lock's owner ("": nobody)
-- returns one character per entry: "1" done, "0" was not there any more
-- atomic because two operators act at once, and neither may copy what the other has moved.
local is_set, n = ARGV[1] == 'set', tonumber(ARGV[2])
local source, base = KEYS[1], 2 + n
-- check before the first write: nothing here is rolled back
local fits = {[2] = 'zset', [3] = 'set', [4] = 'zset'}
for i = 1, n do fits[4 + i] = 'list' end
for key, kind in pairs(fits) do
  local is = redis.call('TYPE', KEYS[key]).ok
  if is ~= 'none' and is ~= kind then
    return redis.error_reply('WRONGTYPE ' .. KEYS[key] .. ' holds a ' .. is)
  end
end
local time = redis.call('TIME')
local now = time[1] .. string.format('.%06d', time[2])
local seen, gone, answer = {}, {}, {}

local function is_there(member, deletes)
  if is_set then return not seen[member] and redis.call('ZSCORE', source, member) end
  -- a queue is searched only once for what is deleted: by the removal
  if deletes then return redis.call('LREM', source, -1, member) == 1 end
  return redis.call('LPOS', source, member, 'RANK', -1)
end

local function remove(member, deletes)
  if is_set then
    seen[member] = true
    gone[#gone + 1] = member
  elseif not deletes then
    redis.call('LREM', source, -1, member)
  end
end

local function take_back(jid)  -- with a mark of its own that is later than all others
  local keep, forget = '+' .. jid, '-' .. jid
  if redis.call('ZSCORE', KEYS[4], keep) or redis.call('ZSCORE', KEYS[4], forget) then
    local last = tonumber(redis.call('ZREVRANGE', KEYS[4], 0, 0, 'WITHSCORES')[2])
    local later = string.format('%.6f', math.max(tonumber(now), last + 0.000001))
    redis.call('ZADD', KEYS[4], later, '=' .. jid)
    redis.call('ZREM', KEYS[4], keep, forget)
  end
end

local function free(index, owner)
  local lock = KEYS[4 + n + index]
  local holder = redis.pcall('GET', lock)
  holder = type(holder) == 'string' and holder  -- of another type: no job's
  local nobody = owner == '' and holder and #holder < 16 and holder:match('^%d+$')
  if holder and (holder == owner or nobody) then redis.call('DEL', lock) end
end

for at = base, #ARGV - 1, 7 do
  local member, to, payload, jid = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local queue, lock = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local deletes = to == 'away'
  if is_there(member, deletes) then
    if to == 'queue' then
      redis.call('LPUSH', KEYS[4 + queue], payload)
      redis.call('SADD', KEYS[3], ARGV[2 + queue])
      if jid ~= '' then take_back(jid) end
    elseif to == 'dead' then
      redis.call('ZADD', KEYS[2], now, payload)
    end
    remove(member, deletes)
    if lock > 0 then free(lock, ARGV[at + 7]) end
    answer[#answer + 1] = '1'
  else
    answer[#answer + 1] = '0'
  end
end
if #gone > 0 then redis.call('ZREM', source, unpack(gone)) end
return table.concat(answer)
