-- rescue: return the jobs of a dead process to the head of their queue.
-- uses: types, room, locks, lanes, effects
-- KEYS  1 private hash  2 queue  3 inbox  4 lease  5 kiq:suspects  6 dead  7 schedule
--       8 kiq:settle:IDENT of the rescuer  9.. the keys of effects
-- ARGV  1 IDENT|QUEUE  2 suspicion in ms  3 sequence of the rescuer  4 state ttl in ms
--       5.. for each job, highest id first: id, new bytes, poison 0|1, delay in s (0: none), its
--       effects (see shared/effects.lua)
-- returns the ids of the jobs that were moved; the same when it is sent again
-- atomic because a process that proves to be alive keeps its jobs, all of them.
local before = redis.call('HGET', KEYS[8], 'rescue')
if before and before:match('^%d+') == ARGV[3] then
  local moved = {}
  for id in before:gmatch(' (%d+)') do moved[#moved + 1] = id end
  return moved
end
if redis.call('EXISTS', KEYS[4]) == 1 then return {} end
local mark = redis.call('HGET', KEYS[5], ARGV[1]) or '0 0 0'
local count, first, last = mark:match('^(%d+) (%d+) (%d+)$')
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local grace = tonumber(ARGV[2])
if tonumber(count) < 3 or now * 1000 - tonumber(first) < grace then return {} end
if now * 1000 - tonumber(last) > grace then return {} end  -- too old
local box = redis.call('LRANGE', KEYS[3], 0, -1)
local needs, each = {[2] = #box > 0 and 'list' or nil}, 5
while each <= #ARGV do
  local place = ARGV[each + 2] == '1' and 6 or tonumber(ARGV[each + 3]) > 0 and 7 or 2
  needs[place] = place == 2 and 'list' or 'zset'
  each = after_effects(each + 4)
end
local wrong = wrong_type(needs)
if wrong then return wrong end
make_room(KEYS[1])
for i = 1, #box do redis.call('RPUSH', KEYS[2], box[i]) end
if #box > 0 then redis.call('DEL', KEYS[3]) end
local moved = {}
local at = 5
while at <= #ARGV do
  local id, payload, poison, delay = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  if redis.call('HEXISTS', KEYS[1], id) == 1 then
    if poison == '1' then
      redis.call('ZADD', KEYS[6], string.format('%.6f', now), payload)
    elseif delay > 0 then
      redis.call('ZADD', KEYS[7], string.format('%.6f', now + delay), payload)
    else
      redis.call('RPUSH', KEYS[2], payload)
    end
    run_effects(at + 4, 8)
    moved[#moved + 1] = id
  end
  at = after_effects(at + 4)
end
if #moved > 0 then
  redis.call('HDEL', KEYS[1], unpack(moved))
  redis.call('HSET', KEYS[8], 'rescue', ARGV[3] .. ' ' .. table.concat(moved, ' '))
  redis.call('PEXPIRE', KEYS[8], ARGV[4])
end
return moved
