-- Move entries whose attempts were used up by hosts that were lost to the dead-letter stream.
--
-- Sent behind letter.lua, fence.lua and rows.lua; the last two say what KEYS 1 to 6 and ARGV 1 to 9 are.
--
-- KEYS  7  the dead-letter stream
-- ARGV 10  reason
--      11  error: a line for people
--      12  time of the sweep, Unix ms
--      13  name that the letters have for the owner
--      14 ... entry ids
--
-- Returns  a value for each id, up to and including the first error; those behind large payloads are left out
--          0    nothing done: another's, not idle for long enough, no suspect, or it has attempts left
--          1    written to KEYS[7] and acknowledged
--          3    it was pending, but its payload is gone from the stream: acknowledged, lost
--          text what XADD complains about: this entry and those behind it stay as they are
--
-- Scripts do not roll back, so each entry's XACK comes after its XADD.

local results = {}
local buried, lost = 0, 0

for i = FIRST, #ARGV do
  if weight >= LARGE then
    break
  end
  local id, n = ARGV[i], i - FIRST + 1
  local suspect, _, counter = judge(id)
  results[n] = 0
  if suspect and counter >= most then
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if entry then
      weigh(entry[2])
      local added = write_letter(stream, KEYS[7], group, ARGV[13], id, entry[2],
        counter, ARGV[10], ARGV[11], '', string.match(id, '^%d+'), ARGV[12])
      if type(added) == 'table' then
        results[n] = added.err
        break
      end
      results[n], buried = 1, buried + 1
    else
      results[n], lost = 3, lost + 1
    end
    redis.call('XACK', stream, group, id)
    forget(id)
  end
end

remove_owner()
count('buried', buried)
count('lost', lost)
return results
