-- Change a breaker, if nobody else has changed it since it was read.
--
-- KEYS  1  hash of the breakers of a group
-- ARGV  1  field: the event
--       2  the value that was read, empty where there was none
--       3  the new value; empty: only look
--
-- Returns  {1, ms}         changed, or looked at and as it was
--          {0, ms, value}  somebody has changed it: nothing was done; nil where it is gone
--          ms is the server's clock, by which all of the fleet goes
--
-- What a value means is decided in one place, by whoever sends it: here it is only compared.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local value = redis.call('HGET', KEYS[1], ARGV[1])
if (value or '') ~= ARGV[2] then
  return {0, now, value}
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return {1, now}
