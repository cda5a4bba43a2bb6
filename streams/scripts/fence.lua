-- What every step of a sweep begins with; the scripts that need it are sent with this text in front.
--
-- KEYS  1  the stream
--       2  the leader's lease: "<epoch> <token> <holder>"
--       3  hash of counters of what sweeps have done
-- ARGV  1  epoch of who believes to lead
--       2  group
--
-- Error FENCED when somebody else leads, or nobody: then nothing has been done.

local leads = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+) ')
if leads ~= ARGV[1] then
  return redis.error_reply('FENCED epoch ' .. ARGV[1] .. ' is over: ' .. (leads or 'nobody') .. ' leads')
end

local stream, swept, group = KEYS[1], KEYS[3], ARGV[2]

local function count(name, n)
  if n > 0 then
    redis.call('HINCRBY', swept, name, n)
  end
end
