-- fetch: claim the oldest jobs of a queue for one process.
-- KEYS  1 queue  2 private hash  3 inbox  4 lease  5 privs  6 paused  7 kiq:settle:IDENT
--       8 kiq:cancels
-- ARGV  1 queue's name  2 how many  3 first delivery id, reserved by the caller  4 IDENT|QUEUE
-- Claims fewer jobs if they are large, but at least one.
-- returns {when a job was last cancelled | false, then the payloads, oldest first}; their ids are
--       first, first + 1, ...
-- atomic because a job must be in the queue or in the hash at every instant.
local MAX_JOBS = 1000  -- of one fetch: Lua's stack is bounded
local MAX_BYTES = 8388608  -- of one reply: a slow link must carry it within a command's timeout
-- GETEX reads, but counts as a write that needs no memory: a full server allows those that follow.
if not redis.call('GETEX', KEYS[4]) then return redis.error_reply('LEASELOST') end
local limit, first = math.min(tonumber(ARGV[2]), MAX_JOBS), tonumber(ARGV[3])
if first < tonumber(redis.call('HGET', KEYS[7], 'floor|' .. ARGV[1]) or '1') then
  return redis.error_reply('STALE fetch of ids that were given up')
end
local box = redis.call('LRANGE', KEYS[3], 0, -1)  -- newest first
local paused = redis.call('SISMEMBER', KEYS[6], ARGV[1]) == 1
local adopted = paused and 0 or math.min(#box, limit)
local rest = {}
if not paused and limit > adopted then
  rest = redis.call('LRANGE', KEYS[1], -(limit - adopted), -1)
end
local jobs, fields, bytes, taken = {}, {}, 0, 0
for i = #box, #box - adopted + 1, -1 do
  jobs[#jobs + 1] = box[i]
  bytes = bytes + #box[i]
end
for i = #rest, 1, -1 do
  bytes = bytes + #rest[i]
  if #jobs > 0 and bytes > MAX_BYTES then break end
  jobs[#jobs + 1] = rest[i]
  taken = taken + 1
end
for i = 1, #jobs do
  fields[#fields + 1] = string.format('%d', first + i - 1)
  fields[#fields + 1] = jobs[i]
end
if #jobs > 0 then
  redis.call('SADD', KEYS[5], ARGV[4])
  redis.call('HSET', KEYS[2], unpack(fields))
end
if taken > 0 then redis.call('LTRIM', KEYS[1], 0, -(taken + 1)) end
for i = 1, #box - adopted do redis.call('RPUSH', KEYS[1], box[i]) end
if #box > 0 then redis.call('DEL', KEYS[3]) end
if paused then return redis.error_reply('PAUSED') end
table.insert(jobs, 1, redis.call('ZREVRANGE', KEYS[8], 0, 0, 'WITHSCORES')[2] or false)
return jobs
