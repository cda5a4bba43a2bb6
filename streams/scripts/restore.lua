-- Create the group again, if it is missing.
--
-- Sent behind fence.lua.
--
-- KEYS  1  the stream, created if it is missing
--       2  the leader's lease
--       3  hash of counters of what sweeps have done
-- ARGV  1  epoch
--       2  group
--       3  id from which on the group reads
--       4  1 to count it: the group was there before
--
-- Returns  1 created, 0 it was there

local made = redis.pcall('XGROUP', 'CREATE', stream, group, ARGV[3], 'MKSTREAM')
if made.err then
  if string.find(made.err, 'BUSYGROUP', 1, true) then
    return 0
  end
  return made
end
count('recreated', tonumber(ARGV[4]))
return 1
