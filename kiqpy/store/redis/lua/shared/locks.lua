-- locks: whose the lock of a unique job is.

-- whether `owner` may free it: a jid, or "" for any of Kiq's, whose value is a number of ms
local function owns(key, owner)
  local holder = redis.pcall('GET', key)
  return type(holder) == 'string'  -- a key of another type is no job's
    and (holder == owner or (owner == '' and #holder < 16 and holder:match('^%d+$') ~= nil))
end
