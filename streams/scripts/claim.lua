-- Set the counter and the idle time of entries, or take them over, only while they belong to whom we think.
--
-- Sent behind waiting.lua.
--
-- KEYS  1  the stream
--       2  hash of waiting records
--       3  hash of stories
-- ARGV  1  group
--       2  consumer: who must own each entry
--       3  consumer: who owns it afterwards
--       4  idle time to set, ms
--       5  1 to return payloads, 0 not to
--       6  least idle time that each entry must have, ms
--       7  idle time that each entry must be below, ms; 0 for none
--       8  what becomes of the records
--          keep  nothing
--          drop  they go: the entries are about to be started
--          put   the entries are recorded as waiting
--          take  the same, and what an earlier record says goes on
--       9, 10 ... pairs: entry id, delivery counter to set
--          with put: triples, the third is how long the entry waits, ms
--
-- Returns  one value for each entry
--          {id, fields} or 1  done, with or without its payload
--          {left, attempts, outcome}  done, with take: for how long it still waits, ms; the other two are 0, or
--                             those of an entry that waits for its dead letter
--          2                  it was pending there, but its payload is deleted: acknowledged now
--          3                  it is pending nowhere and in the stream no more
--          4                  it is pending nowhere, though it was delivered and is in the stream
--          5                  the same, and the consumer who must own it is missing
--          0                  nothing done: acknowledged, owned by another, or idle for too short or too long
--
-- The last three are told apart only where payloads are asked for.
--
-- A plain XCLAIM with no idle time would take an entry back that meanwhile belongs to another.
--
-- Records are written behind the XCLAIM: a server that is full refuses the first write of a script only.

local stream, group, owner, consumer = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local idle, payload, least, below = ARGV[4], ARGV[5] == '1', tonumber(ARGV[6]), tonumber(ARGV[7])
local records = ARGV[8]

local function note(id, counter, left)
  if records == 'drop' then
    forget(id)
  elseif records == 'put' then
    record(id, left, counter, 0, 0, consumer)
  elseif records == 'take' then
    local old = record_of(id)
    if not old or old.counter ~= tonumber(counter) then
      old = {due = 0, delay = 0, attempts = 0, outcome = 0}
    end
    left = math.max(0, math.min(old.due - now_ms(), old.delay))
    record(id, left, counter, old.attempts, old.outcome, consumer)
    return {left, old.attempts, old.outcome}
  end
end

local function numbers(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

-- A group that was created anew may deliver it again.
local function is_delivered(id)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local known = {}
    for at = 1, #info, 2 do
      known[info[at]] = info[at + 1]
    end
    if known['name'] == group then
      local ms, seq = numbers(id)
      local last_ms, last_seq = numbers(known['last-delivered-id'])
      return ms < last_ms or (ms == last_ms and seq <= last_seq)
    end
  end
  return false
end

local missing = nil

local function is_missing()
  if missing == nil then
    missing = true
    for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
      missing = missing and info[2] ~= owner
    end
  end
  return missing
end

local function claim(id, counter, left)
  local row = redis.call('XPENDING', stream, group, id, id, 1)[1]
  if not row then
    if records == 'drop' then
      forget(id)
    end
    if not payload then
      return 0
    end
    if not redis.call('XRANGE', stream, id, id)[1] then
      return 3
    end
    return is_delivered(id) and (is_missing() and 5 or 4) or 0
  end
  if row[2] ~= owner or row[3] < least or (below > 0 and row[3] >= below) then
    return 0
  end
  local entry = 1
  if payload then
    entry = redis.call('XRANGE', stream, id, id)[1]
  end
  -- From 7.0 on, a claim drops a deleted entry from the pending list and returns nothing.
  if entry and redis.call('XCLAIM', stream, group, consumer, 0, id,
      'IDLE', idle, 'RETRYCOUNT', counter, 'JUSTID')[1] then
    return note(id, counter, left) or entry
  end
  redis.call('XACK', stream, group, id)
  forget(id)
  return 2
end

local results = {}
for at = 9, #ARGV, records == 'put' and 3 or 2 do
  results[#results + 1] = claim(ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]))
end
return results
