-- Remove old entries that every group of the stream has acknowledged, a bounded number of them.
--
-- Sent behind fence.lua.
--
-- KEYS  1  the stream
--       2  the leader's lease
--       3  hash of counters of what sweeps have done
-- ARGV  1  epoch
--       2  group
--       3  acked, maxlen or age
--       4  maxlen: entries to keep; age: ms to keep; acked: 0
--       5  how many entries to remove at most, by whole nodes of the stream
--
-- Returns  {removed, more, holder, behind}
--          more    1 if another call may remove more
--          holder  the group that keeps the rule from removing more; empty if there is none, or more is 1
--          behind  how much older than the newest entry the first one is that this group needs, ms by the ids

if redis.replicate_commands then
  redis.replicate_commands()  -- needed before 7.0, where TIME is followed by writes
end

local rule, amount, limit = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

-- Ids hold numbers that are too large for Lua: compare them as text.
local function number_less(a, b)
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end

local function less(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if a_ms ~= b_ms then
    return number_less(a_ms, b_ms)
  end
  return number_less(a_seq, b_seq)
end

local function fields(row)
  local info = {}
  for i = 1, #row, 2 do
    info[row[i]] = row[i + 1]
  end
  return info
end

local bound, oldest  -- oldest: what the rule for age keeps
local holder = ''

local function keep_from(id, who)
  if not bound or less(id, bound) then
    bound, holder = id, who
  end
end

-- How far the group lies behind that holds the rule back.
local function held()
  if holder == '' then
    return {0, 0, '', 0}
  end
  local info = fields(redis.call('XINFO', 'STREAM', stream))
  local first = info['first-entry'] and info['first-entry'][1] or info['last-generated-id']
  if oldest and not less(first, oldest) then
    return {0, 0, '', 0}
  end
  if less(first, bound) then
    first = bound
  end
  local ms = function(id)
    return tonumber(string.match(id, '^%d+'))
  end
  return {0, 0, holder, math.min(ms(info['last-generated-id']) - ms(first), 2 ^ 50)}
end

if redis.call('EXISTS', stream) == 0 then
  return {0, 0, '', 0}
end
for _, row in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local info = fields(row)
  -- Both: a group may have been set back, and will then read what lies between them.
  keep_from(info['last-delivered-id'], info['name'])
  if info['pending'] > 0 then
    keep_from(redis.call('XPENDING', stream, info['name'], '-', '+', 1)[1][1], info['name'])
  end
end

local spare
if rule == 'maxlen' then
  spare = redis.call('XLEN', stream) - amount
  if spare <= 0 then
    return {0, 0, '', 0}
  end
  limit = math.min(limit, spare)
elseif rule == 'age' then
  local now = redis.call('TIME')
  oldest = string.format('%.0f-0', math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - amount))
  keep_from(oldest, '')
end
if not bound or bound == '0-0' then
  return held()
end

local removed = redis.call('XTRIM', stream, 'MINID', '~', bound, 'LIMIT', limit)
local more = removed > 0 and 1 or 0
if removed == 0 then
  -- Not even one whole node: what is left below the bound is a part of the first.
  if spare then
    local few = math.min(spare, 100)
    local next_one = redis.call('XRANGE', stream, '-', bound, 'COUNT', few + 1)[few + 1]
    if next_one then
      keep_from(next_one[1], '')
    end
  end
  removed = redis.call('XTRIM', stream, 'MINID', '=', bound)
end
count('trimmed', removed)
if more == 1 then
  return {removed, 1, '', 0}
end
local found = held()
found[1] = removed
return found
