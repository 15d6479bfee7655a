-- room: what a script that moves jobs calls before its first other write.

-- A full server refuses the writes of a script that need memory, but not after one that needs none.
-- `key` has no expiry, so nothing changes.
local function make_room(key) redis.call('PERSIST', key) end
