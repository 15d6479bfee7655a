-- tick: enqueue the ticks of a periodic that are later than its mark, once whoever sends them.
-- uses: types
-- KEYS  1 kiq:cron  2 kiq:cron:off  3 queues  4 schedule  5 queue list  6.. locks
-- ARGV  1 name  2 enabled as declared 0|1  3 queue name
--       then for each tick: time in s, payload ("" to pass it over), delay in s or "", jid,
--       lock index (0 none), lock ttl in ms from when the job is due
-- returns for each tick "q" queued, "s" scheduled, "d"..jid duplicate (jid holds the lock),
--       "p" past or passed over, "o" disabled
-- atomic because a tick's job is stored and its mark is set in one step.
local name, off = ARGV[1], redis.call('HGET', KEYS[2], ARGV[1])
if not off then off = ARGV[2] == '1' and '0' or '1' end
local mark = math.abs(tonumber(redis.call('HGET', KEYS[1], name) or '0'))
local later = 0
for at = 4, #ARGV, 6 do if ARGV[at + 2] ~= '' then later = later + 1 end end
local at_once = later * 6 < #ARGV - 3 or later == 0
local wrong = wrong_type({
  [3] = at_once and 'set' or nil, [4] = later > 0 and 'zset' or nil, [5] = at_once and 'list' or nil,
})
if wrong then return wrong end

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local function enqueue(payload, delay, jid, lock, ttl)
  if lock > 0 then
    if delay ~= '' then ttl = string.format('%d', math.max(0, delay) * 1000 + ttl) end
    if not redis.call('SET', KEYS[5 + lock], jid, 'NX', 'PX', ttl) then
      local holder = redis.pcall('GET', KEYS[5 + lock])  -- no job owns a key of another type
      return 'd' .. (type(holder) == 'string' and holder or '?')
    end
  end
  if delay ~= '' then
    redis.call('ZADD', KEYS[4], string.format('%.6f', now + tonumber(delay)), payload)
    return 's'
  end
  redis.call('LPUSH', KEYS[5], payload)
  redis.call('SADD', KEYS[3], ARGV[3])
  return 'q'
end

local reply, last = {}, nil
for at = 4, #ARGV, 6 do
  local tick = tonumber(ARGV[at])
  if off == '1' then
    reply[#reply + 1] = 'o'
  elseif tick <= mark then
    reply[#reply + 1] = 'p'
  else
    mark, last = tick, ARGV[at]
    if ARGV[at + 1] == '' then
      last = '-' .. last
      reply[#reply + 1] = 'p'
    else
      reply[#reply + 1] =
        enqueue(ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4]), ARGV[at + 5])
    end
  end
end
if last then redis.call('HSET', KEYS[1], name, last) end
return reply
