-- locks: who owns the lock of a unique job.

-- whether `owner` may free the lock: a jid, or "" for any lock of Kiq's, whose value is a time
local function owns(key, owner)
  local holder = redis.pcall('GET', key)
  return type(holder) == 'string'  -- no job owns a key of another type
    and (holder == owner or (owner == '' and #holder < 16 and holder:match('^%d+$') ~= nil))
end
