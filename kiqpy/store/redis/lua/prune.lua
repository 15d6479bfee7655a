-- prune: remove processes from the list whose hash has expired.
-- KEYS  1 processes  2.. IDENT hashes, up to 100
-- ARGV  their idents
-- returns how many were removed
-- atomic because a process that sends a heartbeat meanwhile must stay in the list.
local gone = {}
for i, ident in ipairs(ARGV) do
  local told = redis.call('HEXISTS', KEYS[2 * i], 'info') == 1
  if not told and redis.call('EXISTS', KEYS[2 * i + 1]) == 0 then gone[#gone + 1] = ident end
end
return #gone > 0 and redis.call('SREM', KEYS[1], unpack(gone)) or 0
