-- Let go of a lease, unless it belongs to another.
--
-- KEYS  1  the lease
-- ARGV  1  token of whoever lets go
--
-- Returns  1 released, 0 it was not held by the token

local value = redis.call('GET', KEYS[1])
if value and string.match(value, '^%d+ (%S+) ') == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
