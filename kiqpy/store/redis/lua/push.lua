-- push: store a frame of jobs once, however often it is sent.
-- uses: types, locks, lanes, effects
-- KEYS  1 kiq:push:CLIENT (hash: seq, reply)  2 queues  3 schedule  4.. queue lists, then locks,
--       then the keys of effects
-- ARGV  1 sequence  2 atomic 0|1  3 number of queue keys, then their names,
--       then the jobs in order, in two forms. A run of jobs for one queue: "index count" as one
--       argument, then so many payloads. A job that is scheduled, unique or in a lane: one argument
--       (more would cost time) with queue index | 0, "at" | "in" | "now", score or delay in s, lock
--       index (0: none), lock ttl in ms from when the job is due, jid; then its payload, then its
--       effects (see shared/effects.lua)
-- returns {"new"|"again", then position and result of each job that was not stored as asked}:
--       "d"..jid: duplicate, jid holds the lock;  "e"..text: refused
-- atomic because a reply may be lost, so jobs and kept reply must be stored in one step.
local MAX_RUN = 1000  -- payloads of one LPUSH: Lua's stack is bounded
local notes, schedule = KEYS[1], KEYS[3]
local sequence, atomic, n_queues = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])
local last = tonumber(redis.call('HGET', notes, 'seq') or '0')
if sequence == last then
  local note = redis.call('HGET', notes, 'reply')
  if note == 'withdrawn' then return redis.error_reply('WITHDRAWN frame ' .. sequence) end
  local reply = cjson.decode(note)
  table.insert(reply, 1, 'again')
  return reply
end
if sequence < last then
  return redis.error_reply('SEQUENCE ' .. sequence .. ' came after ' .. last)
end
-- The first write: a full, read-only or failing server refuses it, before anything has changed.
redis.call('HSET', notes, 'try', sequence)

local wrong = {}
local function check(key, kind, text)
  local is = misfit(key, kind)
  if is then wrong[key] = 'e' .. text .. ' holds a ' .. is end
end
check(schedule, 'zset', 'schedule')
check(KEYS[2], 'set', 'queues')
for i = 1, n_queues do check(KEYS[3 + i], 'list', KEYS[3 + i]) end
local first_wrong = next(wrong) and wrong[next(wrong)]

local reply, named = {}, {}
local function tell(position, what)
  reply[#reply + 1] = tostring(position)
  reply[#reply + 1] = what
end
local function why_not(target, queue)
  return (atomic and first_wrong) or wrong[target] or (queue > 0 and wrong[KEYS[2]])
end
local function name(queue)
  if not named[queue] then
    named[queue] = true
    redis.pcall('SADD', KEYS[2], ARGV[3 + queue])
  end
end

local function put(queue, first, last)  -- puts all of them or none; returns the error, if any
  local trouble = why_not(KEYS[3 + queue], queue)
  if trouble then return trouble end
  local result = redis.pcall('LPUSH', KEYS[3 + queue], unpack(ARGV, first, last))
  if type(result) == 'table' and result.err then return 'e' .. result.err end
  name(queue)
end

local clock
local function time()
  if not clock then
    clock = redis.call('TIME')
    clock = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
  end
  return clock
end

local function single(position, at)
  local how, payload = ARGV[at], ARGV[at + 1]
  local pattern = '^(%d+) (%l+) (%S+) (%d+) (%d+) (.*)$'
  local queue, when, due, lock, ttl, jid = string.match(how, pattern)
  queue, lock, ttl = tonumber(queue), tonumber(lock), tonumber(ttl)
  local at_once = when == 'now'
  local target = at_once and KEYS[3 + queue] or schedule
  local trouble = why_not(target, queue)
  if trouble then return tell(position, trouble) end
  local score = when == 'in' and time() + due or tonumber(due)
  local key = lock > 0 and KEYS[3 + n_queues + lock]
  if key then
    if not at_once and score > time() then ttl = math.min(ttl + (score - time()) * 1000, 1e14) end
    if not redis.call('SET', key, jid, 'NX', 'PX', string.format('%d', ttl)) then
      local found = redis.pcall('GET', key)  -- no job owns a key of another type
      return tell(position, 'd' .. (type(found) == 'string' and found or '?'))
    end
  end
  local result
  if at_once then
    result = redis.pcall('LPUSH', target, payload)
    name(queue)
  else
    result = redis.pcall('ZADD', schedule, string.format('%.6f', score), payload)
  end
  if type(result) == 'table' and result.err then
    tell(position, 'e' .. result.err)
    if key then redis.call('DEL', key) end  -- a job that is not stored must not hold a lock
    return
  end
  run_effects(at + 2, 3 + n_queues)
end

local position, at = 0, 4 + n_queues
while at <= #ARGV do
  local queue, count = string.match(ARGV[at], '^(%d+) (%d+)$')
  if queue then
    local last = at + count
    for first = at + 1, last, MAX_RUN do
      local to = math.min(first + MAX_RUN - 1, last)
      local trouble = put(tonumber(queue), first, to)
      for _ = first, to do
        if trouble then tell(position, trouble) end
        position = position + 1
      end
    end
    at = last + 1
  else
    single(position, at)
    position = position + 1
    at = after_effects(at + 2)
  end
end

local note = #reply > 0 and cjson.encode(reply) or '[]'
redis.call('HSET', notes, 'seq', sequence, 'reply', note)
redis.call('PEXPIRE', notes, 2592000000)
table.insert(reply, 1, 'new')
return reply
