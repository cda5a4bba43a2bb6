-- Hand entries of one consumer to another, where they rest until its worker takes them into hand.
--
-- Sent behind fence.lua and rows.lua, which say what KEYS 1 to 6 and ARGV 1 to 10 are.
--
-- KEYS  7  lease of the target's instance
--       8  inbox of the target's instance
-- ARGV 11  target: consumer who gets them
--      12  its slot
--      13  time to live of the inbox, ms
--      14 ... entry ids
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

local results, at = {}, {}
local resting, suspects, waiting, counters = {}, {}, {}, {}
local charged, lost = {}, 0

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
      at[id] = n
      if held and not suspect then
        counters[id] = math.max(0, counter - 1)
        waiting[#waiting + 1] = id
      else
        local list = suspect and suspects or resting
        list[#list + 1] = id
        charged[id] = held
      end
    end
  end
end

local taken, charges = 0, 0

local function hand(ids, idle, counter)
  if #ids == 0 then
    return
  end
  local command = {'XCLAIM', stream, group, ARGV[11], 0}
  for _, id in ipairs(ids) do
    command[#command + 1] = id
    results[at[id]] = 3
  end
  command[#command + 1] = 'IDLE'
  command[#command + 1] = idle
  if counter then
    command[#command + 1] = 'RETRYCOUNT'
    command[#command + 1] = counter
  end
  command[#command + 1] = 'JUSTID'
  local claimed = redis.call(unpack(command))
  for _, id in ipairs(claimed) do
    results[at[id]] = charged[id] and 2 or 1
    charges = charges + (charged[id] and 1 or 0)
  end
  taken, lost = taken + #claimed, lost + #ids - #claimed
end

hand(resting, ARGV[8])
hand(suspects, ARGV[9])
for _, id in ipairs(waiting) do
  hand({id}, ARGV[8], counters[id])
end
count('taken', taken)
count('suspects', charges)
count('lost', lost)
if taken > 0 then
  redis.call('RPUSH', KEYS[8], ARGV[12])
  redis.call('PEXPIRE', KEYS[8], ARGV[13])
end
return results
