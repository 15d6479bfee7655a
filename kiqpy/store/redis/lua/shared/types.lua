-- types: what a script asks before its first write, for nothing that it has written is rolled back.

-- what the key holds, if it is something else than `kind`; nil if `kind` can be written there
local function misfit(key, kind)
  local is = redis.call('TYPE', key).ok
  if is ~= 'none' and is ~= kind then return is end
end

-- the error of the first of KEYS that does not fit, or nil; kinds: place in KEYS -> type
local function wrong_type(kinds)
  for place, kind in pairs(kinds) do
    local is = misfit(KEYS[place], kind)
    if is then return redis.error_reply('WRONGTYPE ' .. KEYS[place] .. ' holds a ' .. is) end
  end
end
