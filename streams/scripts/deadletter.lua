-- Move one pending entry to the dead-letter stream.
--
-- Sent behind letter.lua, marks.lua and waiting.lua.
--
-- KEYS  1  the stream
--       2  hash of waiting records
--       3  hash of stories
--       4  the dead-letter stream
-- ARGV  1  group
--       2  consumer: the slot that must have the entry
--       3  id of the entry
--       4  attempts
--       5  reason
--       6  error, maybe empty
--       7  traceback, maybe empty
--       8  time of the first attempt, Unix ms
--       9  time of the last attempt, Unix ms
--
-- Returns  0  nothing done: the entry is no longer pending, or belongs to another consumer
--          1  written to KEYS[4] and acknowledged
--          2  acknowledged only: the entry has been deleted from the stream, its payload is lost
--          3  nothing done: this consumer has written the letter before, and the answer was lost
--
-- Scripts do not roll back, so XACK comes last: if XADD fails (out of memory, wrong type, no permission) the
-- error ends the script and the entry stays pending.

local stream, dlq = KEYS[1], KEYS[4]
local group, consumer, id = ARGV[1], ARGV[2], ARGV[3]
local PAGE, LETTERS, LARGE = 10, 1000, 1024 * 1024

-- Tell whether this consumer's letter of the entry is among the newest, as far as they are not large.
-- Values 4, 8 and 10 of a letter are the entry, the group and the consumer.
local function was_written()
  local last, weight = '+', 0
  for _ = 1, LETTERS / PAGE do
    local letters = redis.pcall('XREVRANGE', dlq, last, '-', 'COUNT', PAGE)
    for _, letter in ipairs(letters) do
      local values = letter[2]
      if values[1] == 'rsq:v' and values[4] == id and values[8] == group and values[10] == consumer then
        return true
      end
      for _, value in ipairs(values) do
        weight = weight + #value
      end
    end
    if #letters < PAGE or weight > LARGE then
      return false
    end
    last = '(' .. letters[#letters][1]
  end
  return false
end

local pending = redis.call('XPENDING', stream, group, id, id, 1)
if not pending[1] then
  forget(id)
  return was_written() and 3 or 0
end
if not mark_of(pending[1], consumer) then
  return 0
end

local entry = redis.call('XRANGE', stream, id, id)[1]
if not entry then
  redis.call('XACK', stream, group, id)
  forget(id)
  return 2
end
local added = write_letter(stream, dlq, group, consumer, id, entry[2],
  ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9])
if type(added) == 'table' then
  return added
end
redis.call('XACK', stream, group, id)
forget(id)
return 1
