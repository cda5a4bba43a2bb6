-- Acquire a lease, or go on with it; scripts that need it are sent with this text in front.
--
-- key      the lease: a string "<epoch> <token> <holder>" with a time to live
-- epochs   key of the counter of epochs
-- token    random, of whoever asks
-- holder   for people, may contain spaces
-- ttl      time to live, ms
--
-- Returns  {1, epoch, 0, value}  held by the token; the epoch is new, for the lease was free
--          {2, epoch, 0, value}  the same, and it was held by the token all the time
--          {0, 0, left, value}   held by another, for `left` ms more
--
-- Compare and extend in one step, so two can never both hold it; a holder whose time has run out and who comes
-- back gets a new epoch, by which everybody can tell that others may have held it in between.
--
-- A server that is out of memory refuses a script's first write if that needs memory, and none after a write
-- that needs none. A lease takes a few bytes, and without one nobody could acknowledge and trim, which is what
-- makes room. So the first write is a DEL of what is not there. See docs/decisions/0020-out-of-memory.md.

-- What cannot be ours (a value of another type, a lease without an end, a counter that is no number) was left
-- there by somebody else and is removed: it would keep all pools waiting for ever.

local LARGEST = 9007199254740991  -- what Lua writes without an exponent

local function garbled(reply)
  local words = type(reply) == 'table' and reply.err or ''
  return string.find(words, 'WRONGTYPE') or string.find(words, 'not an integer') or string.find(words, 'overflow')
end

local function count(epochs)
  local epoch = redis.pcall('INCR', epochs)
  if garbled(epoch) or (type(epoch) == 'number' and (epoch < 1 or epoch > LARGEST)) then
    redis.call('DEL', epochs)
  elseif type(epoch) == 'number' then
    return epoch
  end
  return redis.call('INCR', epochs)
end

local function acquire(key, epochs, token, holder, ttl)
  local value = redis.pcall('GET', key)
  if garbled(value) or (value and redis.call('PTTL', key) == -1) then
    redis.call('DEL', key)
    value = false
  elseif type(value) == 'table' then
    return redis.call('GET', key)  -- another error: let it be the script's
  end
  if value then
    local epoch, owner = string.match(value, '^(%d+) (%S+) ')
    if owner ~= token then
      return {0, 0, redis.call('PTTL', key), value}
    end
    redis.call('PEXPIRE', key, ttl)
    return {2, tonumber(epoch), 0, value}
  end
  redis.call('DEL', key)
  local epoch = count(epochs)
  value = epoch .. ' ' .. token .. ' ' .. holder
  redis.call('SET', key, value, 'PX', ttl)
  return {1, epoch, 0, value}
end
