-- block_lane: note since when a lane waits for the retry of its head.
-- keys  see shared/lanes.lua
-- args  1 lane  2 jid of its head
effects.block_lane = function(keys, args)
  lane_fits(keys)
  if redis.call('HGET', keys[3], args[1]) == args[2]
    and redis.call('HEXISTS', keys[4], args[1]) == 0 then
    mark_lane(keys, args[1], 'blocked')
  end
end
