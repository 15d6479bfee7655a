-- unwait: return to the queue what a wait may have received.
-- uses: room
-- KEYS  1 inbox  2 queue
-- returns how many jobs went back, to the oldest end of the queue
-- atomic because a job must be in the inbox or in the queue at every instant.
local box = redis.call('LRANGE', KEYS[1], 0, -1)
if #box > 0 then make_room(KEYS[1]) end
for i = 1, #box do redis.call('RPUSH', KEYS[2], box[i]) end
if #box > 0 then redis.call('DEL', KEYS[1]) end
return #box
