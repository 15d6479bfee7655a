-- push: make a frame of jobs durable, once however often it is sent.
-- KEYS  1 kiq:push:CLIENT (hash: seq, reply)  2 queues  3 schedule  4.. queue lists, then locks
-- ARGV  1 sequence  2 atomic 0|1  3 number of queue keys, then their names,
--       then per job: how it is stored, and its payload.  How: the index of its queue; or, of one
--       that is scheduled or unique, in one text (each word of a call costs the client): queue
--       index | 0, "at" | "in" | "now", score or delay in s, lock index (0 none), lock ttl in ms
--       from when the job is due, jid
-- returns {"new"|"again", then pairs: position, what} for the jobs that were not simply stored:
--       "d"..jid: duplicate, held by jid;  "e"..text: refused
-- atomic because a reply may be lost: what was done and the note of it must be one step.
local notes, schedule = KEYS[1], KEYS[3]
local sequence, atomic, n_queues = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])
local last = tonumber(redis.call('HGET', notes, 'seq') or '0')
if sequence == last then
  local reply = cjson.decode(redis.call('HGET', notes, 'reply'))
  table.insert(reply, 1, 'again')
  return reply
end
if sequence < last then
  return redis.error_reply('SEQUENCE ' .. sequence .. ' came after ' .. last)
end
-- A first write that a full, read-only or failing server refuses before anything has changed.
redis.call('HSET', notes, 'try', sequence)

local wrong = {}
local function check(key, kind, text)
  local is = redis.call('TYPE', key).ok
  if is ~= 'none' and is ~= kind then wrong[key] = 'e' .. text .. ' holds a ' .. is end
end
check(schedule, 'zset', 'schedule')
check(KEYS[2], 'set', 'queues')
for i = 1, n_queues do check(KEYS[3 + i], 'list', KEYS[3 + i]) end
local first_wrong = next(wrong) and wrong[next(wrong)]

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local reply, named = {}, {}
local function tell(position, what)
  reply[#reply + 1] = tostring(position)
  reply[#reply + 1] = what
end

local position, at = 0, 3 + n_queues
while at < #ARGV do
  local queue, payload = tonumber(ARGV[at + 1]), ARGV[at + 2]
  local how, due, lock, ttl, jid = '', '0', 0, 0, ''
  if not queue then
    local pattern = '^(%d+) (%l+) (%S+) (%d+) (%d+) (.*)$'
    queue, how, due, lock, ttl, jid = string.match(ARGV[at + 1], pattern)
    queue, lock, ttl = tonumber(queue), tonumber(lock), tonumber(ttl)
    if how == 'now' then how = '' end
  end
  local target = how == '' and KEYS[3 + queue] or schedule
  local trouble = (atomic and first_wrong) or wrong[target] or (how == '' and wrong[KEYS[2]])
  local score = how == 'in' and now + due or tonumber(due)
  local key = lock > 0 and KEYS[3 + n_queues + lock]
  local holder, taken = false, false
  if key and not trouble then
    if how ~= '' and score > now then ttl = math.min(ttl + (score - now) * 1000, 1e14) end
    ttl = string.format('%d', ttl)
    taken = redis.call('SET', key, jid, 'NX', 'PX', ttl)
    if not taken then
      local found = redis.pcall('GET', key)  -- another program's key of another type: no job's
      holder = type(found) == 'string' and found or '?'
    end
  end
  if trouble then
    tell(position, trouble)
  elseif holder then
    tell(position, 'd' .. holder)
  else
    local result
    if how == '' then
      result = redis.pcall('LPUSH', target, payload)
      if not named[queue] then
        named[queue] = true
        redis.pcall('SADD', KEYS[2], ARGV[3 + queue])
      end
    else
      result = redis.pcall('ZADD', schedule, string.format('%.6f', score), payload)
    end
    if type(result) == 'table' and result.err then
      tell(position, 'e' .. result.err)
      if taken then redis.call('DEL', key) end  -- what is not stored must keep nobody out
    end
  end
  position = position + 1
  at = at + 2
end

local note = #reply > 0 and cjson.encode(reply) or '[]'
redis.call('HSET', notes, 'seq', sequence, 'reply', note)
redis.call('PEXPIRE', notes, 2592000000)
table.insert(reply, 1, 'new')
return reply
