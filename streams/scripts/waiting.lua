-- Waiting records, of entries that are held and not started. Goes in front of the scripts that use them, behind
-- a line that says which of their KEYS these are.
--
-- WAITING  hash of entry id -> "<due> <delay> <counter> <attempts> <outcome> <consumer>"
--            due       it waits until then, server's time in ms
--            delay     how long that was when the record was written, ms: no clock that is set back makes it longer
--            counter   delivery counter when the record was written; another one: it is out of date
--            attempts, outcome  0, or those of an entry that waits for its dead letter
--            consumer  who has written it; owned by another: the entry may have been started since
-- STORIES  hash of entry id -> story of a dead letter that could not be written yet
--
-- No record is needed for anything: without one, an entry may have been started. So a server that refuses to
-- keep it, or a user who may not write it, is no error.

local clock

local function now_ms()
  if not clock then
    local time = redis.call('TIME')
    clock = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return clock
end

-- Returns the parts of a record, nil without one.
local function parts_of(text)
  if type(text) ~= 'string' then
    return nil
  end
  local due, delay, counter, attempts, outcome, consumer = string.match(text,
    '^(%d+) (%d+) (%d+) (%d+) (%d+) (.*)$')
  return due and {due = tonumber(due), delay = tonumber(delay), counter = tonumber(counter),
    attempts = tonumber(attempts), outcome = tonumber(outcome), consumer = consumer}
end

local function record_of(id)
  return parts_of(redis.pcall('HGET', WAITING, id))
end

-- Returns the records of many entries; `list` has an id first in each row.
local function records_of(list)
  local ids, found = {}, {}
  for i, row in ipairs(list) do
    ids[i] = row[1]
  end
  if #ids > 0 then
    for i, text in ipairs(redis.pcall('HMGET', WAITING, unpack(ids))) do
      found[i] = parts_of(text)
    end
  end
  return found
end

-- Tell whether an entry that its owner holds has certainly not been started.
local function is_waiting(id, owner, counter)
  local found = record_of(id)
  return found ~= nil and found.consumer == owner and found.counter == counter
end

local function as_record(delay, counter, attempts, outcome, consumer)
  return string.format('%.0f %.0f %.0f %d %d %s', now_ms() + delay, delay, counter, attempts, outcome, consumer)
end

local function record(id, delay, counter, attempts, outcome, consumer)
  redis.pcall('HSET', WAITING, id, as_record(delay, counter, attempts, outcome, consumer))
end

local function forget(...)
  redis.pcall('HDEL', WAITING, ...)
  redis.pcall('HDEL', STORIES, ...)
end
