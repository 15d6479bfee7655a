-- next_in_lane: let the next job of a lane run, if the job that is gone was the lane's head.
-- keys  see shared/lanes.lua
-- args  1 lane  2 jid of the job that is gone
effects.next_in_lane = function(keys, args)
  lane_fits(keys)
  if redis.call('HGET', keys[3], args[1]) == args[2] then start_next(keys, args[1]) end
end
