-- lane_rows: what is known of some lanes; changes nothing.
-- KEYS  1 heads  2 states  3.. the lanes
-- ARGV  their names
-- returns for each lane: head | false, state | false, how many jobs wait, the scheduled time of the
--       first of them | false
-- atomic because the parts of a row must fit together.
local rows = {}
for i = 1, #ARGV do
  rows[#rows + 1] = redis.call('HGET', KEYS[1], ARGV[i])
  rows[#rows + 1] = redis.call('HGET', KEYS[2], ARGV[i])
  rows[#rows + 1] = redis.call('ZCARD', KEYS[2 + i])
  rows[#rows + 1] = redis.call('ZRANGE', KEYS[2 + i], 0, 0, 'WITHSCORES')[2] or false
end
return rows
