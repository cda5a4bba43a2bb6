-- The rows of one owner's entries, and whether a sweep may act on them; goes between fence.lua and its user,
-- behind marks.lua, bulk.lua and waiting.lua.
--
-- KEYS  4  lease of the owner's instance
--       5  hash of waiting records
--       6  hash of stories
-- ARGV  3  consumer: who must own each entry; empty for entries without an owner
--       4  1 if the owner's instance must have no lease
--       5  least idle time of an entry that is held, ms; -1: it is not to be touched
--       6  how long an entry that rests must have rested, ms
--       7  attempts allowed
--       8  what the owner's name says of its entries: resting or suspect; held: their idle time says it
--       9  at which argument the ids begin: in ascending order

local owner, held_ms, rested_ms, most = ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local MARK, FIRST = ARGV[8], tonumber(ARGV[9])
local lives = ARGV[4] == '1' and redis.call('EXISTS', KEYS[4]) == 1

local known = {}
if owner ~= '' and not lives then
  local rows = redis.call('XPENDING', stream, group, ARGV[FIRST], ARGV[#ARGV], #ARGV - FIRST + 1, owner)
  for _, row in ipairs(rows) do
    known[row[1]] = row
  end
end

-- A payload costs what it weighs: who reads payloads stops after the one with which it has read so much.
local LARGE, weight = 256 * 1024, 0

local function weigh(fields)
  for _, text in ipairs(fields) do
    weight = weight + #text
  end
end

-- Returns nil if nothing may be done with an entry; else true if it is a suspect or is to become one, true if
-- it is still held, and its counter. What is held and recorded was not started: it is no suspect.
local function judge(id)
  if lives then
    return nil
  end
  local row = known[id] or redis.call('XPENDING', stream, group, id, id, 1)[1]
  if not row or row[2] ~= owner then
    return nil
  end
  local idle, counter = row[3], row[4]
  if owner == '' then
    -- Nobody has it, and it has no time. XNACK FATAL sets a counter that a script cannot even pass on: it says
    -- what a stranger thinks of the entry, not how often it was tried. As of one that was not started at all.
    local tried = counter < 2^53
    return false, not tried, tried and counter or 1
  end
  local mark, untouched = MARK, idle
  if mark == 'held' then
    mark, untouched = mark_of(row, owner)
  end
  if mark ~= 'held' then
    if untouched < rested_ms then
      return nil
    end
    return mark == 'suspect', false, counter
  end
  if held_ms < 0 or idle < held_ms then
    return nil
  end
  return not is_waiting(id, owner, counter), true, counter
end

-- To be called at the end: see marks.lua.
local function remove_owner()
  if MARK ~= 'held' then
    remove_empty(stream, group, {[owner] = true})
  end
end
