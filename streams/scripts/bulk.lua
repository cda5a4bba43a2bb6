-- Many entries looked at and claimed by few commands: one by one it costs several times as much. Goes in front of
-- the scripts that do so.

-- Returns id -> row of an owner's entries from one id to another, at most so many; others than those that are
-- asked for may be among them.
local function rows_between(stream, group, first, last, name, most)
  local found = {}
  for _, row in ipairs(redis.call('XPENDING', stream, group, first, last, most, name)) do
    found[row[1]] = row
  end
  return found
end

local puts, order = {}, {}

-- Note that an entry is to be claimed for an owner, with an idle time and a delivery counter; nil leaves that.
-- Others may have set one that is too large for a number of Lua.
local function put_to(name, idle, id, counter)
  if type(counter) == 'number' then
    counter = string.format('%.0f', counter)
  end
  local key = (counter or '') .. ' ' .. idle .. ' ' .. name
  if not puts[key] then
    puts[key] = {name = name, idle = idle, counter = counter}
    order[#order + 1] = puts[key]
  end
  table.insert(puts[key], id)
end

-- Claim what was noted; returns the set of ids that were claimed. From 7.0 on, what is deleted from the stream
-- is not among them, and not pending any more.
local function put_all(stream, group)
  local claimed = {}
  for _, list in ipairs(order) do
    for from = 1, #list, 500 do
      local words = {'XCLAIM', stream, group, list.name, 0, unpack(list, from, math.min(from + 499, #list))}
      words[#words + 1], words[#words + 2], words[#words + 3] = 'IDLE', list.idle, 'JUSTID'
      if list.counter then
        words[#words + 1], words[#words + 2] = 'RETRYCOUNT', list.counter
      end
      for _, id in ipairs(redis.call(unpack(words))) do
        claimed[id] = true
      end
    end
  end
  puts, order = {}, {}
  return claimed
end
