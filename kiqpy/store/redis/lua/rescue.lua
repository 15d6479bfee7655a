-- rescue: return what a dead process held to the head of its queue.
-- KEYS  1 private hash  2 queue  3 inbox  4 lease  5 kiq:suspects  6 dead  7 schedule  8.. locks
-- ARGV  1 IDENT|QUEUE  2 suspicion in ms
--       3.. per job: id, new bytes, poison 0|1, delay in s (0: none), the lock's owner ("": one
--       of Kiq's), lock index (0 none), lock ttl in ms; highest id first
-- returns the ids that were moved
-- atomic because a process that came back to life must win, wholly or not at all.
if redis.call('EXISTS', KEYS[4]) == 1 then return {} end
local mark = redis.call('HGET', KEYS[5], ARGV[1]) or '0 0 0'
local count, first, last = mark:match('^(%d+) (%d+) (%d+)$')
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local grace = tonumber(ARGV[2])
if tonumber(count) < 3 or now * 1000 - tonumber(first) < grace then return {} end
if now * 1000 - tonumber(last) > grace then return {} end  -- too old to rely on
-- check before the first write: nothing here is rolled back, and it would be done again
for key, kind in pairs({[2] = 'list', [6] = 'zset', [7] = 'zset'}) do
  local is = redis.call('TYPE', KEYS[key]).ok
  if is ~= 'none' and is ~= kind then
    return redis.error_reply('WRONGTYPE ' .. KEYS[key] .. ' holds a ' .. is)
  end
end
local function owns(lock, jid)
  local holder = lock > 0 and redis.pcall('GET', KEYS[7 + lock])  -- of another type: no job's
  return type(holder) == 'string'
    and (holder == jid or (jid == '' and #holder < 16 and holder:match('^%d+$')))
end
local box = redis.call('LRANGE', KEYS[3], 0, -1)
for i = 1, #box do redis.call('RPUSH', KEYS[2], box[i]) end
if #box > 0 then redis.call('DEL', KEYS[3]) end
local moved = {}
for at = 2, #ARGV - 1, 7 do
  local id, delay = ARGV[at + 1], tonumber(ARGV[at + 4])
  local jid, lock = ARGV[at + 5], tonumber(ARGV[at + 6])
  local ms = delay * 1000 + tonumber(ARGV[at + 7])
  if redis.call('HEXISTS', KEYS[1], id) == 1 then
    if ARGV[at + 3] == '1' then
      redis.call('ZADD', KEYS[6], string.format('%.6f', now), ARGV[at + 2])
    elseif delay > 0 then
      redis.call('ZADD', KEYS[7], string.format('%.6f', now + delay), ARGV[at + 2])
    else
      redis.call('RPUSH', KEYS[2], ARGV[at + 2])
    end
    if owns(lock, jid) then
      local key = KEYS[7 + lock]
      if ARGV[at + 3] == '1' then
        redis.call('DEL', key)
      elseif jid ~= '' and redis.call('PTTL', key) < ms then
        redis.call('PEXPIRE', key, string.format('%d', ms))
      end
    end
    moved[#moved + 1] = id
  end
end
if #moved > 0 then redis.call('HDEL', KEYS[1], unpack(moved)) end
return moved
