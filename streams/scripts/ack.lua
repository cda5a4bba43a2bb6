-- Acknowledge entries, as their owner and only as their owner.
--
-- Sent behind marks.lua.
--
-- KEYS  1  the stream
-- ARGV  1  group
--       2  consumer: the slot that must have each entry
--       3 ... entry ids
--
-- Returns  how many were acknowledged
--
-- XACK takes no consumer: one who was away too long would acknowledge the delivery of the next owner.

local done = 0
for at = 3, #ARGV do
  local row = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[at], ARGV[at], 1)[1]
  if row and mark_of(row, ARGV[2]) then
    done = done + redis.call('XACK', KEYS[1], ARGV[1], ARGV[at])
  end
end
return done
