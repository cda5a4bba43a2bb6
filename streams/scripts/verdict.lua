-- Note that an entry only waits for its dead letter, and keep its story: whoever has it next writes the letter.
--
-- Sent behind marks.lua and waiting.lua.
--
-- KEYS  1  the stream
--       2  hash of waiting records
--       3  hash of stories
-- ARGV  1  group
--       2  consumer: the slot that must have the entry
--       3  entry id
--       4  delivery counter to set: its attempts are used up, for whoever does not see the record
--       5  attempts that were started
--       6  outcome
--       7  story
--
-- Returns  1  done
--          0  nothing done: the entry is not pending, or belongs to another
--
-- The claim comes first: a server that is full refuses the first write of a script only.

local row = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)[1]
if not row or not mark_of(row, ARGV[2]) then
  return 0
end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', 0, 'RETRYCOUNT', ARGV[4], 'JUSTID')
record(ARGV[3], 0, ARGV[4], ARGV[5], ARGV[6], ARGV[2])
redis.pcall('HSET', STORIES, ARGV[3], ARGV[7])
return 1
