-- Which entries a slot has, and whether somebody has them in hand. Goes in front of the scripts that look at
-- owners. `streams/marks.py` says what the marks are.

local RESTING, SUSPECT = 1099511627776, 1649267441664  -- idle times from which on an entry has a mark, ms
local REST_OWNER, SUSPECT_OWNER = ':rest', ':suspect'

-- Returns held, resting or suspect, and for how long nobody has touched the entry, ms; nil if it is not the
-- slot's. `row` is one of XPENDING.
local function mark_of(row, slot)
  local name, idle = row[2], row[3]
  if name == slot then
    if idle >= SUSPECT then
      return 'suspect', idle - SUSPECT
    elseif idle >= RESTING then
      return 'resting', idle - RESTING
    end
    return 'held', idle
  elseif name == slot .. REST_OWNER then
    return 'resting', idle
  elseif name == slot .. SUSPECT_OWNER then
    return 'suspect', idle
  end
end

-- Owners that have a mark are there only while they own something: a claim makes them, this removes them.
-- Removing one drops what it owns, so that is looked at in the same step.
local function remove_empty(stream, group, names)
  for name in pairs(names) do
    local rows = redis.pcall('XPENDING', stream, group, '-', '+', 1, name)
    if not rows.err and not rows[1] then
      redis.pcall('XGROUP', 'DELCONSUMER', stream, group, name)
    end
  end
end
