-- extend_lock: extend the lock of a unique job, if the job still holds it.
-- keys  1 unique:TOKEN
-- args  1 the owner, a jid  2 time from now in ms; a lock that lasts longer anyway is left alone
effects.extend_lock = function(keys, args)
  local ms = tonumber(args[2])
  if args[1] ~= '' and owns(keys[1], args[1]) and redis.call('PTTL', keys[1]) < ms then
    redis.call('PEXPIRE', keys[1], string.format('%d', ms))
  end
end
