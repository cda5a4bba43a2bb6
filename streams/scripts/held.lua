-- What a slot has pending, and when the server last touched it.
--
-- Sent behind marks.lua.
--
-- KEYS  1  the stream
-- ARGV  1  group
--       2  consumer of the slot
--       3  start of the range of ids
--       4  most rows, of those that are held and of those that rest
--
-- Returns  the server's time, then for each row: entry id, idle time, 0 held, 1 resting, 2 suspect; times in ms
--
-- Time less idle time is when the row was last written, and stays the same until somebody writes it again.

local CODES = {held = 0, resting = 1, suspect = 2}
local time = redis.call('TIME')
local found = {time[1] * 1000 + math.floor(time[2] / 1000)}
for _, name in ipairs({ARGV[2], ARGV[2] .. REST_OWNER}) do
  for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], '+', ARGV[4], name)) do
    found[#found + 1] = row[1]
    found[#found + 1] = row[3]
    found[#found + 1] = CODES[mark_of(row, ARGV[2])]
  end
end
return found
