-- Move one pending entry to the dead-letter stream.
--
-- Sent behind letter.lua.
--
-- KEYS  1  the stream
--       2  the dead-letter stream
-- ARGV  1  group
--       2  consumer: who must own the entry
--       3  id of the entry
--       4  attempts
--       5  reason
--       6  error, maybe empty
--       7  traceback, maybe empty
--       8  time of the first attempt, Unix ms
--       9  time of the last attempt, Unix ms
--
-- Returns  0  nothing done: the entry is no longer pending, or belongs to another consumer
--          1  written to KEYS[2] and acknowledged
--          2  acknowledged only: the entry has been deleted from the stream, its payload is lost
--
-- Scripts do not roll back, so XACK comes last: if XADD fails (out of memory, wrong type, no permission) the
-- error ends the script and the entry stays pending.

local stream, dlq = KEYS[1], KEYS[2]
local group, consumer, id = ARGV[1], ARGV[2], ARGV[3]

local pending = redis.call('XPENDING', stream, group, id, id, 1)
if not pending[1] or pending[1][2] ~= consumer then
  return 0
end

local entry = redis.call('XRANGE', stream, id, id)[1]
if not entry then
  redis.call('XACK', stream, group, id)
  return 2
end
local added = write_letter(stream, dlq, group, consumer, id, entry[2],
  ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9])
if type(added) == 'table' then
  return added
end
redis.call('XACK', stream, group, id)
return 1
