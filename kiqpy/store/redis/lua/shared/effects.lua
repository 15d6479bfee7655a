-- effects: what a script does besides, in the same step, when it settles, rescues or moves a job.
-- ARGV holds, from `at` on: the number of effects; then for each effect its op, the number of its
-- keys, their places after KEYS[base], the number of its arguments, and these.
-- `lua/effects/OP.lua` sets effects.OP(keys, args).
local effects = {}

-- the place in ARGV after the effects
local function after_effects(at)
  local count = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, count do
    at = at + 2 + tonumber(ARGV[at + 1])
    at = at + 1 + tonumber(ARGV[at])
  end
  return at
end

-- carries the effects out; skips one that fails, because its job must be settled all the same
local function run_effects(at, base)
  local count = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, count do
    local op, n_keys, keys, args = ARGV[at], tonumber(ARGV[at + 1]), {}, {}
    for i = 1, n_keys do keys[i] = KEYS[base + tonumber(ARGV[at + 1 + i])] end
    at = at + 2 + n_keys
    local n_args = tonumber(ARGV[at])
    for i = 1, n_args do args[i] = ARGV[at + i] end
    at = at + 1 + n_args
    local done, why = pcall(effects[op], keys, args)
    if not done then
      why = type(why) == 'table' and why.err or why
      redis.log(redis.LOG_WARNING, 'kiqpy left out the effect ' .. op .. ': ' .. tostring(why))
    end
  end
  return at
end
