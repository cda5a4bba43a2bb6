-- Count entries after an id, without sending them: for servers that do not know the lag.
--
-- KEYS  1  the stream
-- ARGV  1  id; what comes after it is counted
--       2  count no further than to this
--       3  nor past so many bytes of payload
--
-- Returns  {count, bytes, last}   there may be more after the id `last`
--          {count, bytes, false}  that is all there are
--
-- Writes nothing. In small pages, since a stream of large payloads would fill the server's memory; and asked for
-- a few hundred at a time, since nobody else is served meanwhile.

local count, bytes, last = 0, 0, ARGV[1]
local most, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
while count < most and bytes < limit do
  local size = math.min(10, most - count)
  local found = redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', size)
  for _, entry in ipairs(found) do
    for _, word in ipairs(entry[2]) do
      bytes = bytes + #word
    end
  end
  count = count + #found
  if #found < size then
    return {count, bytes, false}
  end
  last = found[#found][1]
end
return {count, bytes, last}
