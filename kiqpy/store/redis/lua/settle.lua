-- settle: carry out verdicts on claims that this process still owns. A plain ack is a verdict too.
-- uses: types, locks, lanes, effects
-- KEYS  1 private hash  2 kiq:settle:IDENT  3 queue  4 retry  5 schedule  6 dead
--       7 stat:processed  8 stat:failed  9 and 10 the same of the day, 11 and 12 of the queue
--       13.. the keys of effects
-- ARGV  1 queue's name  2 sequence  3 state ttl in ms
--       4 the ids of plain acks as ranges, such as "7-9,11-11": cheaper for the client than each
--       then for each verdict: kind, id, payload, delay in s, its effects (see shared/effects.lua);
--       kinds: "done" "failed" "retry" "defer" "bury" "release"
-- returns one character for each verdict, plain acks first: "1" carried out, "0" fenced, "w" not
--       carried out, for the key where its job belongs holds another type; the same frame sent
--       again carries out these and no others
-- atomic because a claim must not be lost between the check and the verdict, and because the reply
-- is kept in the same step, for a frame that is sent again.
local MAX_RUN = 1000  -- words that are passed on in one step: Lua's stack has a bound
local queue, sequence = ARGV[1], ARGV[2]
local noted = redis.call('HMGET', KEYS[2], 'seq|' .. queue, 'reply|' .. queue)
local before = noted[1] == sequence and noted[2]
if before and not string.find(before, 'w', 1, true) then return before end
if noted[1] and tonumber(noted[1]) > tonumber(sequence) then
  return redis.error_reply('SEQUENCE ' .. sequence .. ' came after ' .. noted[1])
end

local TARGETS = {
  release = {3, 'list'}, defer = {5, 'zset'}, retry = {4, 'zset'}, bury = {6, 'zset'},
}
local known = {}
local function fits(kind)
  if known[kind] == nil then
    local target = TARGETS[kind]
    known[kind] = not (target and misfit(KEYS[target[1]], target[2]))
  end
  return known[kind]
end

-- The first write must be one that a full server allows, because settling frees memory there.
redis.call('PEXPIRE', KEYS[2], ARGV[3])

local ids = {}
for first, last in string.gmatch(ARGV[4], '(%d+)-(%d+)') do
  for id = tonumber(first), tonumber(last) do ids[#ids + 1] = string.format('%d', id) end
end
local n_plain = #ids
local verdicts, at = {}, 5  -- where in ARGV each begins
while at <= #ARGV do
  verdicts[#verdicts + 1] = at
  ids[#ids + 1] = ARGV[at + 1]
  at = after_effects(at + 4)
end
local held = {}
for first = 1, #ids, MAX_RUN do
  local last = math.min(first + MAX_RUN - 1, #ids)
  local found = redis.call('HMGET', KEYS[1], unpack(ids, first, last))
  if last == #found then held = found else for i = 1, #found do held[first + i - 1] = found[i] end end
end
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local processed, failed = 0, 0
local gone, answer = {}, {}

for i = 1, n_plain do
  answer[i] = held[i] and '1' or '0'
  if held[i] then
    processed = processed + 1
    gone[#gone + 1] = ids[i]
  end
end

for n, at in ipairs(verdicts) do
  local i = n_plain + n
  local kind, payload, delay = ARGV[at], ARGV[at + 2], tonumber(ARGV[at + 3])
  answer[i] = not held[i] and '0' or fits(kind) and '1' or 'w'
  if answer[i] == '1' then
    gone[#gone + 1] = ids[i]
    if kind == 'release' then
      redis.call('RPUSH', KEYS[3], held[i])
    elseif kind == 'defer' then
      redis.call('ZADD', KEYS[5], string.format('%.6f', now + delay), payload)
    else
      processed = processed + 1
      if kind ~= 'done' then failed = failed + 1 end
      if kind == 'retry' then
        redis.call('ZADD', KEYS[4], string.format('%.6f', now + delay), payload)
      elseif kind == 'bury' then
        redis.call('ZADD', KEYS[6], string.format('%.6f', now), payload)
      end
    end
    run_effects(at + 4, 12)
  end
end

if before then  -- what was carried out then is not held any more, and was not fenced
  for i = 1, #answer do
    local was = string.sub(before, i, i)
    if was ~= 'w' then answer[i] = was end
  end
end
local reply = table.concat(answer)
redis.call('HSET', KEYS[2], 'seq|' .. queue, sequence, 'reply|' .. queue, reply)
redis.call('PEXPIRE', KEYS[2], ARGV[3])
for first = 1, #gone, MAX_RUN do
  redis.call('HDEL', KEYS[1], unpack(gone, first, math.min(first + MAX_RUN - 1, #gone)))
end

-- Counters come last, with pcall: a counter of a wrong type must not fail what is done.
if processed > 0 then
  redis.pcall('INCRBY', KEYS[7], processed)
  redis.pcall('INCRBY', KEYS[9], processed)
  redis.pcall('INCRBY', KEYS[11], processed)
  redis.pcall('EXPIRE', KEYS[9], 157680000)
end
if failed > 0 then
  redis.pcall('INCRBY', KEYS[8], failed)
  redis.pcall('INCRBY', KEYS[10], failed)
  redis.pcall('INCRBY', KEYS[12], failed)
  redis.pcall('EXPIRE', KEYS[10], 157680000)
end
return reply
