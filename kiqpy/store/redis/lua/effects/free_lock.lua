-- free_lock: free the lock of a unique job, if the job still holds it.
-- keys  1 unique:TOKEN
-- args  1 the owner: a jid, or "" for any lock of Kiq's
effects.free_lock = function(keys, args)
  if owns(keys[1], args[1]) then redis.call('DEL', keys[1]) end
end
