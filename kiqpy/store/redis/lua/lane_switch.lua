-- lane_switch: pause a lane, let it go on, or let its next job run though its head has not ended.
-- uses: types, room, lanes
-- KEYS  see shared/lanes.lua
-- ARGV  1 lane  2 "pause" | "resume" | "pass"  3 for "pass": the jid of its head
-- returns 1, or 0 if nothing had to change
-- atomic because a job may end at the same time.
local lane, what = ARGV[1], ARGV[2]
lane_fits(KEYS)
local head, state = redis.call('HGET', KEYS[3], lane), stopped(KEYS, lane)
if what == 'pause' then
  if state then return 0 end
  mark_lane(KEYS, lane, 'paused')
  return 1
end
make_room(KEYS[3])
if what == 'pass' then
  if not head or head ~= ARGV[3] then return 0 end
elseif not state then
  return 0
end
if what == 'resume' or state == 'halted' then redis.call('HDEL', KEYS[4], lane) end
if what == 'pass' or not head or head == '' or state == 'halted' then start_next(KEYS, lane) end
return 1
