-- free_lock: free the lock of a unique job, if the job still has it.
-- keys  1 unique:TOKEN
-- args  1 its owner: a jid, or "" for any of Kiq's
effects.free_lock = function(keys, args)
  if owns(keys[1], args[1]) then redis.call('DEL', keys[1]) end
end
