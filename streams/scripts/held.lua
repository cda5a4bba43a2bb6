-- What a consumer has pending, and when the server last touched it.
--
-- KEYS  1  the stream
-- ARGV  1  group
--       2  consumer
--       3  start of the range of ids
--       4  most rows
--
-- Returns  the server's time, then for each row: entry id, idle time; all in ms
--
-- Time less idle time is when the row was last written, and stays the same until somebody writes it again.

local time = redis.call('TIME')
local found = {time[1] * 1000 + math.floor(time[2] / 1000)}
for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], '+', ARGV[4], ARGV[2])) do
  found[#found + 1] = row[1]
  found[#found + 1] = row[3]
end
return found
