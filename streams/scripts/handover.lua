-- Hand entries of one consumer to another, where they rest until its worker takes them into hand.
--
-- Sent behind fence.lua and rows.lua, which say what KEYS 1 to 6 and ARGV 1 to 9 are.
--
-- KEYS  7  lease of the target's instance
--       8  inbox of the target's instance
-- ARGV 10, 11  who gets what rests, and the idle time to set, ms
--      12, 13  who gets suspects, and the idle time to set, ms
--      14  the target's slot
--      15  time to live of the inbox, ms
--      16 ... entry ids
--
-- Returns  an empty list: the target's instance has no lease, nothing has been done; else a value for each id,
--             those behind large payloads left out (before 7.0)
--          0  nothing done: another's, not idle for long enough, or its attempts are used up
--          1  handed over as it was
--          2  handed over as a suspect: it was held, and is charged
--          3  it was pending, but its payload is gone from the stream: acknowledged, lost
--
-- Counters stay: that of a held entry is the attempt that may have run, that of a resting one those that did.
-- Only that of a held one which was not started becomes the number of attempts that were.

if redis.call('EXISTS', KEYS[7]) == 0 then
  return {}
end

local results, at, charged, lost = {}, {}, {}, 0

for i = FIRST, #ARGV do
  if weight >= LARGE then
    break
  end
  local id, n = ARGV[i], i - FIRST + 1
  local suspect, held, counter = judge(id)
  results[n] = 0
  if suspect ~= nil and not (suspect and counter >= most) then
    -- From 7.0 on a claim tells what is deleted; before, it would hand over an entry without payload.
    local entry = redis.REDIS_VERSION_NUM or redis.call('XRANGE', stream, id, id)[1]
    if not entry then
      redis.call('XACK', stream, group, id)
      results[n], lost = 3, lost + 1
    else
      if not redis.REDIS_VERSION_NUM then
        weigh(entry[2])
      end
      at[id], charged[id] = n, held and suspect
      if suspect then
        put_to(ARGV[12], ARGV[13], id)
      else
        put_to(ARGV[10], ARGV[11], id, held and math.max(0, counter - 1) or nil)
      end
    end
  end
end

local taken, charges = 0, 0
local claimed = put_all(stream, group)
for id, n in pairs(at) do
  if not claimed[id] then
    results[n], lost = 3, lost + 1
  else
    results[n], taken = charged[id] and 2 or 1, taken + 1
    charges = charges + (charged[id] and 1 or 0)
  end
end
remove_owner()
count('taken', taken)
count('suspects', charges)
count('lost', lost)
if taken > 0 then
  redis.call('RPUSH', KEYS[8], ARGV[14])
  redis.call('PEXPIRE', KEYS[8], ARGV[15])
end
return results
