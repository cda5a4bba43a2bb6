-- Acquire a lease, or go on with it.
--
-- KEYS  1  the lease: a string "<epoch> <token> <holder>" with a time to live
--       2  the counter of epochs
-- ARGV  1  token: random, of whoever asks
--       2  holder: for people, may contain spaces
--       3  time to live, ms
--
-- Returns  {1, epoch, 0, value}  held by the token; the epoch is new if the lease was free
--          {2, epoch, 0, value}  the same, and it was held by the token all the time
--          {0, 0, left, value}   held by another, for `left` ms more
--
-- Compare and extend in one step, so two can never both hold it; a holder whose time has run out and who comes
-- back gets a new epoch, by which everybody can tell that others may have held it in between.

local value = redis.call('GET', KEYS[1])
if value then
  local epoch, token = string.match(value, '^(%d+) (%S+) ')
  if token ~= ARGV[1] then
    return {0, 0, redis.call('PTTL', KEYS[1]), value}
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {2, tonumber(epoch), 0, value}
end
local epoch = redis.call('INCR', KEYS[2])
value = epoch .. ' ' .. ARGV[1] .. ' ' .. ARGV[2]
redis.call('SET', KEYS[1], value, 'PX', ARGV[3])
return {1, epoch, 0, value}
