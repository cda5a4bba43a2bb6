-- Give entries that a slot has not started to another slot, where they rest; or let them rest where they are.
--
-- KEYS  1  the stream
-- ARGV  1  group
--       2  consumer: who must own each entry
--       3  consumer: who owns it afterwards; the same to let it rest
--       4  idle time from which on an entry rests, ms
--       5  idle time from which on it is a suspect, ms
--       6  by how much a time may be off, ms
--       7, 8 ... pairs: entry id, when it was last touched, ms
--
-- Returns  one value for each pair
--          1  done
--          0  nothing done: acknowledged, another's, touched since, a suspect, or its payload is gone
--
-- Whoever is about to start an entry touches it first. So one that was not touched since it was looked at was
-- not started either, however late this script comes. Nobody is charged: the counter becomes the number of
-- attempts that were started.

local stream, group, owner, target = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local RESTING, SUSPECT, off = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local function lend(id, touched)
  local time = redis.call('TIME')
  local row = redis.call('XPENDING', stream, group, id, id, 1)[1]
  if not row or row[2] ~= owner or row[3] >= SUSPECT then
    return 0
  end
  local since = time[1] * 1000 + math.floor(time[2] / 1000) - row[3]
  if math.abs(since - touched) > off or not redis.call('XRANGE', stream, id, id)[1] then
    return 0
  end
  local started = row[4]
  if row[3] < RESTING then
    started = math.max(0, started - 1)
  end
  redis.call('XCLAIM', stream, group, target, 0, id, 'IDLE', ARGV[4], 'RETRYCOUNT', started, 'JUSTID')
  return 1
end

local results = {}
for at = 7, #ARGV, 2 do
  results[#results + 1] = lend(ARGV[at], tonumber(ARGV[at + 1]))
end
return results
