-- transfer: move or delete entries of a set or a queue, if they are still there.
-- uses: types, room, locks, lanes, effects
-- KEYS  1 set or queue  2 dead  3 queues  4 kiq:cancels  5.. queue lists, then the keys of effects
-- ARGV  1 "set" | "queue"  2 number of queues, then their names,
--       then for each entry: member, "queue" | "dead" | "away", new bytes, jid, queue index | 0,
--       its effects (see shared/effects.lua)
-- returns one character for each entry: "1" done, "0" no longer there
-- atomic because two operators may act at once, and each entry must be moved only once.
local is_set, n = ARGV[1] == 'set', tonumber(ARGV[2])
local source = KEYS[1]
local needs, each = {}, 3 + n
for i = 1, n do needs[3], needs[4], needs[4 + i] = 'set', 'zset', 'list' end
while each <= #ARGV do
  if ARGV[each + 1] == 'dead' then needs[2] = 'zset' end
  each = after_effects(each + 5)
end
local wrong = wrong_type(needs)
if wrong then return wrong end
make_room(source)
local time = redis.call('TIME')
local now = time[1] .. string.format('.%06d', time[2])
local seen, gone, answer = {}, {}, {}

local function is_there(member, deletes)
  if is_set then return not seen[member] and redis.call('ZSCORE', source, member) end
  -- a deletion searches the queue only once: it is the removal itself
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

-- Takes a cancel back by a mark that is later than all others, so that every process reads it.
local function take_back(jid)
  local keep, forget = '+' .. jid, '-' .. jid
  if redis.call('ZSCORE', KEYS[4], keep) or redis.call('ZSCORE', KEYS[4], forget) then
    local last = tonumber(redis.call('ZREVRANGE', KEYS[4], 0, 0, 'WITHSCORES')[2])
    local later = string.format('%.6f', math.max(tonumber(now), last + 0.000001))
    redis.call('ZADD', KEYS[4], later, '=' .. jid)
    redis.call('ZREM', KEYS[4], keep, forget)
  end
end

local at = 3 + n
while at <= #ARGV do
  local member, to, payload, jid = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local queue, deletes = tonumber(ARGV[at + 4]), to == 'away'
  if is_there(member, deletes) then
    if to == 'queue' then
      redis.call('LPUSH', KEYS[4 + queue], payload)
      redis.call('SADD', KEYS[3], ARGV[2 + queue])
      if jid ~= '' then take_back(jid) end
    elseif to == 'dead' then
      redis.call('ZADD', KEYS[2], now, payload)
    end
    remove(member, deletes)
    run_effects(at + 5, 4 + n)
    answer[#answer + 1] = '1'
  else
    answer[#answer + 1] = '0'
  end
  at = after_effects(at + 5)
end
if #gone > 0 then redis.call('ZREM', source, unpack(gone)) end
return table.concat(answer)
