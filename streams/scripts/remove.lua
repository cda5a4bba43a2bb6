-- Remove consumers of one instance, or consumers without an instance, and the instance's report.
--
-- Sent behind fence.lua and marks.lua.
--
-- KEYS  1  the stream
--       2  the leader's lease
--       3  hash of counters of what sweeps have done
--       4  lease of the instance
--       5  hash of reports
-- ARGV  1  epoch
--       2  group
--       3  instance; empty for consumers without one
--       4  least idle time of the consumers, ms
--       5  1 to remove the report, too, once no consumer of the instance is left
--       6  how many owners that have a mark follow, then those, then other consumers
--
-- Returns  names of those that were removed, without the owners that have a mark
--
-- While the instance has a lease only owners that have a mark are removed. Those are nobody's name: whoever
-- needs one makes it again.
--
-- Removing a consumer drops what it has pending, so that is looked at here, in the same step.

local instance, ttl, marked = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[6])
local empty = {}
for i = 7, 6 + marked do
  empty[ARGV[i]] = true
end
remove_empty(stream, group, empty)
if instance ~= '' and redis.call('EXISTS', KEYS[4]) == 1 then
  return {}
end

-- The instance of a consumer's name; nil for one that is none of ours.
local function instance_of(name)
  return string.match(name, '^(.*):%d+$') or string.match(name, '^(.*):%d+' .. REST_OWNER .. '$')
    or string.match(name, '^(.*):%d+' .. SUSPECT_OWNER .. '$')
end

local wanted, removed, left = {}, {}, false
for i = 7 + marked, #ARGV do
  wanted[ARGV[i]] = true
end
for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local info = {}
  for i = 1, #row, 2 do
    info[row[i]] = row[i + 1]
  end
  local name = info['name']
  if wanted[name] and info['pending'] == 0 and info['idle'] >= ttl then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
    removed[#removed + 1] = name
  elseif instance_of(name) == instance then
    left = true
  end
end
count('removed', #removed)
if ARGV[5] == '1' and instance ~= '' and not left then
  redis.call('HDEL', KEYS[5], instance)
end
return removed
