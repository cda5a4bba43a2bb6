-- Move one pending entry to the dead-letter stream.
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

-- `unpack` gives up near 8000 values (LUAI_MAXCSTACK). Longer entries go into one field.
local UNPACK_MAX = 4000

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
local fields = entry[2]

-- Readers go by position: the order and number of these pairs are the format.
local letter = {
  'rsq:v', '1',
  'rsq:id', id,
  'rsq:stream', stream,
  'rsq:group', group,
  'rsq:consumer', consumer,
  'rsq:attempts', ARGV[4],
  'rsq:reason', ARGV[5],
  'rsq:error', ARGV[6],
  'rsq:traceback', ARGV[7],
  'rsq:first', ARGV[8],
  'rsq:last', ARGV[9],
}
local n = #letter
if n + 2 + #fields <= UNPACK_MAX then
  letter[n + 1], letter[n + 2] = 'rsq:packed', '0'
  for i = 1, #fields do
    letter[n + 2 + i] = fields[i]
  end
else
  letter[n + 1], letter[n + 2] = 'rsq:packed', '1'
  letter[n + 3], letter[n + 4] = 'rsq:fields', cmsgpack.pack(fields)
end

redis.call('XADD', dlq, '*', unpack(letter))
redis.call('XACK', stream, group, id)
return 1
