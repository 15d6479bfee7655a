-- promote: move due members into their queues, with new bytes.
-- uses: types, room, locks, lanes, effects
-- KEYS  1 schedule | retry  2 dead  3 queues  4.. queue lists, then the keys of effects
-- ARGV  1 number of queues, then their names,
--       then for each job: queue index | 0 (unreadable: to the dead set), member, new bytes,
--       its effects (see shared/effects.lua)
-- returns how many members were moved: those that were still there and due
-- atomic because two processes may promote at once, and each job must be moved only once.
local n = tonumber(ARGV[1])
local fit, needs = {[0] = false}, {}
for i = 1, n do fit[i] = not misfit(KEYS[3 + i], 'list') end
local each = 2 + n
while each <= #ARGV do  -- the dead set, or the names of queues: what is used is checked
  local fits = fit[tonumber(ARGV[each])]
  needs[fits and 3 or 2] = fits and 'set' or 'zset'
  each = after_effects(each + 3)
end
local wrong = wrong_type(needs)
if wrong then return wrong end
make_room(KEYS[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local gone, named = {}, {}
local at = 2 + n
while at <= #ARGV do
  local queue, member = tonumber(ARGV[at]), ARGV[at + 1]
  local score = redis.call('ZSCORE', KEYS[1], member)
  if score and tonumber(score) <= now then
    if fit[queue] then
      redis.call('LPUSH', KEYS[3 + queue], ARGV[at + 2])
      named[queue] = true
      run_effects(at + 3, 3 + n)
    else
      redis.call('ZADD', KEYS[2], string.format('%.6f', now), ARGV[at + 2])
    end
    gone[#gone + 1] = member
  end
  at = after_effects(at + 3)
end
for i = 1, n do if named[i] then redis.call('SADD', KEYS[3], ARGV[1 + i]) end end
if #gone > 0 then redis.call('ZREM', KEYS[1], unpack(gone)) end
return #gone
