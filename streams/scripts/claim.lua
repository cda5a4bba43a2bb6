-- Set the counter and the mark of entries, or take them over, only while they belong to whom we think.
--
-- Sent behind marks.lua, bulk.lua and waiting.lua.
--
-- KEYS  1  the stream
--       2  hash of waiting records
--       3  hash of stories
-- ARGV  1  group
--       2  consumer: the slot that must have each entry
--       3  consumer: the slot that has it afterwards
--       4  who owns it afterwards: that consumer, or what its mark makes of it
--       5  1 to return payloads, 0 not to
--       6  which entries: held, rests (suspects, too) or any
--       7  what becomes of the records
--          keep  nothing
--          drop  they go: the entries are about to be started
--          put   the entries are recorded as waiting
--          take  the same, and what an earlier record says goes on
--       8, 9 ... pairs: entry id, delivery counter to set
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
--          0                  nothing done: acknowledged, another's, or with another mark
--
-- The last three are told apart only where payloads are asked for.
--
-- A plain XCLAIM with no idle time would take an entry back that meanwhile belongs to another.
--
-- Records are written behind the XCLAIM: a server that is full refuses the first write of a script only.

local stream, group, owner, consumer = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local target, payload, which, records = ARGV[4], ARGV[5] == '1', ARGV[6], ARGV[7]
local FIRST, WIDTH = 8, records == 'put' and 3 or 2

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

local function by_id(id)
  return redis.call('XPENDING', stream, group, id, id, 1)[1]
end

local left_by = {}  -- owners with a mark from whom entries were taken

-- Returns what became of an entry that cannot be claimed; else nil, and its payload if that is asked for.
local function refuse(id, row)
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
  local mark = mark_of(row, owner)
  if not mark or (which ~= 'any' and (which == 'held') ~= (mark == 'held')) then
    return 0
  end
  if row[2] ~= owner and row[2] ~= target then
    left_by[row[2]] = true
  end
  if payload then
    return nil, redis.call('XRANGE', stream, id, id)[1]
  end
  return nil, 1
end

local known = rows_between(stream, group, ARGV[FIRST], ARGV[#ARGV - WIDTH + 1],
  which == 'rests' and owner .. REST_OWNER or owner, (#ARGV - FIRST + 1) / WIDTH)
local results, entries = {}, {}
local n = 0
for at = FIRST, #ARGV, WIDTH do
  local id = ARGV[at]
  n = n + 1
  results[n], entries[n] = refuse(id, known[id] or by_id(id))
  if not results[n] and entries[n] then
    put_to(target, 0, id, ARGV[at + 1])
  end
end
local claimed = put_all(stream, group)

local noted = {}
n = 0
for at = FIRST, #ARGV, WIDTH do
  local id, counter = ARGV[at], ARGV[at + 1]
  n = n + 1
  if results[n] then  -- nothing was done
  elseif entries[n] and claimed[id] then
    results[n], noted[#noted + 1] = entries[n], {id, counter, tonumber(ARGV[at + 2]), n}
  else
    -- From 7.0 on, a claim drops a deleted entry from the pending list and does not return it.
    redis.call('XACK', stream, group, id)
    forget(id)
    results[n] = 2
  end
end

-- Behind the claims: what is taken over has the record that it had before, if that is not out of date.
local old = records == 'take' and records_of(noted) or {}
local words, ids = {}, {}
for i, row in ipairs(noted) do
  local id, counter = row[1], tonumber(row[2])
  if records == 'drop' then
    ids[i] = id
  elseif records == 'put' then
    words[2 * i - 1], words[2 * i] = id, as_record(row[3], counter, 0, 0, consumer)
  elseif records == 'take' then
    local found = old[i]
    if not found or found.counter ~= counter then
      found = {due = 0, delay = 0, attempts = 0, outcome = 0}
    end
    local left = math.max(0, math.min(found.due - now_ms(), found.delay))
    words[2 * i - 1], words[2 * i] = id, as_record(left, counter, found.attempts, found.outcome, consumer)
    results[row[4]] = {left, found.attempts, found.outcome}
  end
end
if #ids > 0 then
  forget(unpack(ids))
end
if #words > 0 then
  redis.pcall('HSET', WAITING, unpack(words))
end
remove_empty(stream, group, left_by)
return results
