-- take_lock: give a job its lock again; a lock that another job holds is left alone.
-- keys  1 unique:TOKEN
-- args  1 the job's jid  2 time from now in ms; a lock of its own that lasts longer is left alone
effects.take_lock = function(keys, args)
  if args[1] == '' or tonumber(args[2]) < 1 then return end
  if not redis.call('SET', keys[1], args[1], 'NX', 'PX', string.format('%d', args[2])) then
    effects.extend_lock(keys, args)
  end
end
