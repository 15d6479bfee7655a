-- lanes: who is next in a lane of a blocking queue.
-- keys, of each function: 1 queue  2 the lane (zset: jobs that wait, by scheduled time and order of
--       arrival)  3 heads (hash: lane -> the jid of the one job that may run; "" if none may)
--       4 states (hash: lane -> "paused" | "halted" | "blocked", and since when)
-- A lane that has no head and no state holds no job, and has no key.

local LANE_KINDS, fitting = {'list', 'zset', 'hash', 'hash'}, {}
local function lane_fits(keys)  -- checked before the first write of each
  for i = 1, 4 do
    if not fitting[keys[i]] then
      local is = misfit(keys[i], LANE_KINDS[i])
      if is then error(keys[i] .. ' holds a ' .. is) end
      fitting[keys[i]] = true
    end
  end
end

-- "paused" or "halted", if no job of the lane may start, else nil; and whether it has a state
local function stopped(keys, lane)
  local state = redis.call('HGET', keys[4], lane)
  if not state then return nil, false end
  local word = string.match(state, '^%l+')
  return word ~= 'blocked' and word or nil, true
end

local function mark_lane(keys, lane, state)
  redis.call('HSET', keys[4], lane, state .. ' ' .. redis.call('TIME')[1])
end

-- whether the job may run: it is the head, or becomes it, because the lane is idle
local function is_head(keys, lane, jid, is_new)
  if stopped(keys, lane) then return false end
  local head = redis.call('HGET', keys[3], lane)
  local idle = not head or head == ''
  if idle then redis.call('HSET', keys[3], lane, jid) end
  return idle or (head == jid and not is_new)
end

-- lets a job wait: at its scheduled time, or behind all others; a head that may not run now, first
local function wait_in_lane(keys, lane, jid, payload, at, is_new)
  local head, score = redis.call('HGET', keys[3], lane), tonumber(at)
  local first = head == jid and not is_new
  if first then
    score = 0
  elseif not score then
    local last = redis.call('ZREVRANGE', keys[2], 0, 0, 'WITHSCORES')[2]
    local time = redis.call('TIME')
    score = math.max(time[1] + time[2] / 1000000, (last or 0) + 0.000001)
  end
  local text = string.format('%.6f', score)
  while (first or at ~= '') and redis.call('ZCOUNT', keys[2], text, text) > 0 do
    score = score + 0.000001
    text = string.format('%.6f', score)
  end
  redis.call('ZADD', keys[2], text, payload)
  if first or not head then redis.call('HSET', keys[3], lane, '') end
end

local function jid_of(payload)
  local read, job = pcall(cjson.decode, payload)
  return read and type(job) == 'table' and type(job.jid) == 'string' and job.jid or ''
end

-- lets the next job of the lane run; forgets the lane if there is none
local function start_next(keys, lane)
  local first = redis.call('ZRANGE', keys[2], 0, 0)[1]
  local stop, has_state = stopped(keys, lane)
  if has_state and not stop then redis.call('HDEL', keys[4], lane) end
  if stop then
    redis.call('HSET', keys[3], lane, '')
  elseif first then
    redis.call('LPUSH', keys[1], first)
    redis.call('HSET', keys[3], lane, jid_of(first))
    redis.call('ZREM', keys[2], first)
  else
    redis.call('HDEL', keys[3], lane)
  end
end
