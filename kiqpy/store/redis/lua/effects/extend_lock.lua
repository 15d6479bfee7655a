-- extend_lock: let a unique job hold its lock for so long from now, if it still has it.
-- keys  1 unique:TOKEN
-- args  1 its owner, a jid  2 for how long, in ms; never less than it would last anyway
effects.extend_lock = function(keys, args)
  local ms = tonumber(args[2])
  if args[1] ~= '' and owns(keys[1], args[1]) and redis.call('PTTL', keys[1]) < ms then
    redis.call('PEXPIRE', keys[1], string.format('%d', ms))
  end
end
