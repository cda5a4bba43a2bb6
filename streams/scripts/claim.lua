-- Set the counter and the idle time of entries, or take them over, only while they belong to whom we think.
--
-- KEYS  1  the stream
-- ARGV  1  group
--       2  consumer: who must own each entry
--       3  consumer: who owns it afterwards
--       4  idle time to set, ms
--       5  1 to return payloads, 0 not to
--       6  least idle time that each entry must have, ms
--       7  idle time that each entry must be below, ms; 0 for none
--       8, 9 ... pairs: entry id, delivery counter to set
--
-- Returns  one value for each pair
--          {id, fields} or 1  done, with or without its payload
--          2                  it was pending there, but its payload is deleted: acknowledged now
--          3                  it is pending nowhere and in the stream no more
--          0                  nothing done: acknowledged, owned by another, or idle for too short or too long
--
-- A plain XCLAIM with no idle time would take an entry back that meanwhile belongs to another.

local stream, group, owner, consumer = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local idle, payload, least, below = ARGV[4], ARGV[5] == '1', tonumber(ARGV[6]), tonumber(ARGV[7])

local function claim(id, counter)
  local row = redis.call('XPENDING', stream, group, id, id, 1)[1]
  if not row then
    return payload and not redis.call('XRANGE', stream, id, id)[1] and 3 or 0
  end
  if row[2] ~= owner or row[3] < least or (below > 0 and row[3] >= below) then
    return 0
  end
  local entry = 1
  if payload then
    entry = redis.call('XRANGE', stream, id, id)[1]
  end
  -- From 7.0 on, a claim drops a deleted entry from the pending list and returns nothing.
  if entry and redis.call('XCLAIM', stream, group, consumer, 0, id,
      'IDLE', idle, 'RETRYCOUNT', counter, 'JUSTID')[1] then
    return entry
  end
  redis.call('XACK', stream, group, id)
  return 2
end

local results = {}
for at = 8, #ARGV, 2 do
  results[#results + 1] = claim(ARGV[at], ARGV[at + 1])
end
return results
