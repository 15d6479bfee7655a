-- heads: of claimed jobs, keep those that are heads of their lanes; the others wait there.
-- uses: types, lanes
-- KEYS  1 private hash  2 queue  3 heads  4 states  5.. lanes, one for each claim
-- ARGV  for each claim: id, lane, jid, scheduled time in s or ""
-- returns one character for each claim: "1" it may run, "0" it is not claimed any more
-- atomic because a job must be claimed or in its lane at every instant, and because two processes
-- may have claimed jobs of one lane that another program has put into the queue.
local answer, gone = {}, {}
for i = 1, #ARGV / 4 do
  local at = 4 * i - 3
  local id, lane, jid = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local keys = {KEYS[2], KEYS[4 + i], KEYS[3], KEYS[4]}
  local payload = redis.call('HGET', KEYS[1], id)
  local fits = payload and pcall(lane_fits, keys)
  answer[i] = payload and (not fits or is_head(keys, lane, jid)) and '1' or '0'
  if payload and answer[i] == '0' then
    wait_in_lane(keys, lane, jid, payload, ARGV[at + 3])
    gone[#gone + 1] = id
  end
end
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
return table.concat(answer)
