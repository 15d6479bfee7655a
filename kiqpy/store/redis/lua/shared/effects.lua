-- effects: what is done besides when a job is settled, rescued or moved, in the same step.
-- In ARGV from `at` on: how many effects; then for each its op, how many keys, the place of each
-- after KEYS[base], how many arguments, these. `lua/effects/OP.lua` sets effects.OP(keys, args).
local effects = {}

-- where the words after the effects begin
local function after_effects(at)
  local count = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, count do
    at = at + 2 + tonumber(ARGV[at + 1])
    at = at + 1 + tonumber(ARGV[at])
  end
  return at
end

-- carries the effects out; one that fails is left out, for its job must be settled all the same
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
