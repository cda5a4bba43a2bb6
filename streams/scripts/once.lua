-- Leave a mark for each entry whose handler has returned, and acknowledge it.
--
-- Sent behind marks.lua.
--
-- KEYS  1      the stream
--       2 ...  the mark of each entry
-- ARGV  1      group
--       2      consumer: the slot that must have an entry for it to be acknowledged; empty: whoever does
--       3 ...  pairs, as many as marks: entry id, time to live of its mark in ms
--
-- Returns  how many were acknowledged
--
-- Scripts do not roll back, so marks come first: if one cannot be set (out of memory) its entry stays pending.
-- Set again, a mark keeps its time. It is set for another's entry, too: the handler has returned all the same.

local stream, group, owner = KEYS[1], ARGV[1], ARGV[2]
local done = 0
for at = 2, #KEYS do
  local id = ARGV[2 * at - 1]
  redis.call('SET', KEYS[at], id, 'NX', 'PX', ARGV[2 * at])
  local row = owner ~= '' and redis.call('XPENDING', stream, group, id, id, 1)[1]
  if owner == '' or (row and mark_of(row, owner)) then
    done = done + redis.call('XACK', stream, group, id)
  end
end
return done
