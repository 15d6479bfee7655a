-- enter_lane: let the job that this step has put at the newest end of its queue wait in its lane,
--       unless it is the lane's head, or becomes it.
-- keys  see shared/lanes.lua
-- args  1 lane  2 jid  3 scheduled time in s, or "": now  4 new 0|1: it can't be the head yet
effects.enter_lane = function(keys, args)
  lane_fits(keys)
  local lane, jid, is_new = args[1], args[2], args[4] == '1'
  if stopped(keys, lane) == 'halted' and redis.call('HGET', keys[3], lane) == jid and not is_new then
    redis.call('HDEL', keys[4], lane)  -- the lane was halted for this job, which runs once more
  end
  if is_head(keys, lane, jid, is_new) then return end
  wait_in_lane(keys, lane, jid, redis.call('LINDEX', keys[1], 0), args[3], is_new)
  redis.call('LPOP', keys[1])
end
