-- types: checks of keys' types. A script makes them before its first write, because the server
-- rolls nothing back when a script fails.

-- the type of the key, if it is not `kind`; nil if `kind` can be written there
local function misfit(key, kind)
  local is = redis.call('TYPE', key).ok
  if is ~= 'none' and is ~= kind then return is end
end

-- an error about the first of KEYS that does not fit, or nil; kinds: place in KEYS -> type
local function wrong_type(kinds)
  for place, kind in pairs(kinds) do
    local is = misfit(KEYS[place], kind)
    if is then return redis.error_reply('WRONGTYPE ' .. KEYS[place] .. ' holds a ' .. is) end
  end
end
