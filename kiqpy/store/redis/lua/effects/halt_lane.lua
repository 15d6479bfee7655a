-- halt_lane: let no further job of a lane run, because its head has failed for the last time.
-- keys  see shared/lanes.lua
-- args  1 lane  2 jid of its head
effects.halt_lane = function(keys, args)
  lane_fits(keys)
  if redis.call('HGET', keys[3], args[1]) == args[2] then mark_lane(keys, args[1], 'halted') end
end
