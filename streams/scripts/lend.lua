-- Give entries that a slot has not started to another slot, where they rest; or let them rest where they are.
--
-- Sent behind marks.lua and bulk.lua.
--
-- KEYS  1  the stream
-- ARGV  1  group
--       2  consumer: the slot that must have each entry
--       3  who owns it afterwards
--       4  idle time to set, ms
--       5  by how much a time may be off, ms
--       6, 7 ... pairs: entry id, when it was last touched, ms; -1 if it was seen to rest
--
-- Returns  one value for each pair
--          1  done
--          0  nothing done: acknowledged, another's, touched since, a suspect, or its payload is gone
--
-- Whoever is about to start an entry touches it first. So one that was not touched since it was looked at was
-- not started either, however late this script comes. What rests is in nobody's hand. Nobody is charged: the counter becomes the number of
-- attempts that were started.

local stream, group, owner, target = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local off, left_by, FIRST = tonumber(ARGV[5]), {}, 6

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local now = now_ms()
local known = rows_between(stream, group, ARGV[FIRST], ARGV[#ARGV - 1], owner, (#ARGV - FIRST + 1) / 2)

-- Returns whether an entry is to be lent, and the counter that it gets then; nil: the one that it has.
local function look(id, touched)
  local row, at = known[id], now
  if not row then
    at = now_ms()
    row = redis.call('XPENDING', stream, group, id, id, 1)[1]
  end
  local mark = row and mark_of(row, owner)
  if not mark or mark == 'suspect' then
    return false
  end
  local same = touched < 0 and mark == 'resting' or math.abs(at - row[3] - touched) <= off
  if not same or not redis.call('XRANGE', stream, id, id)[1] then
    return false
  end
  if row[2] ~= owner and row[2] ~= target then
    left_by[row[2]] = true
  end
  return true, mark == 'held' and math.max(0, row[4] - 1) or nil
end

local results = {}
for at = FIRST, #ARGV, 2 do
  local may, counter = look(ARGV[at], tonumber(ARGV[at + 1]))
  results[#results + 1] = may and 1 or 0
  if may then
    put_to(target, ARGV[4], ARGV[at], counter)
  end
end
put_all(stream, group)
remove_empty(stream, group, left_by)
return results
