-- Add entries to a stream: not again what was added before, and not more than there is room for.
--
-- KEYS  1  the stream
--       2  what the last call in this lane did: a string with a time to live
--       3  the id of the entry that is the only one of its key; only with a time in ARGV 5
-- ARGV  1  number of this call in its lane
--       2  how long to remember what it did, ms
--       3  free   no limit
--          ~ or = the stream is trimmed to so many entries, about or exactly, read or not
--          unread no group shall have more unread than so many; without a group every entry is unread
--       4  how many: 0 with free
--       5  for how long the entry is the only one of its key, ms; 0 if it need not be, else there is one entry
--       6  how many words each entry has
--       7  the words of all entries
--
-- Returns  {'added', unread, group, id, ...}  unread entries before, and of whom (only if there was not room for
--                                             all); ids of as many entries as there was room for
--          {'known', id}                      there is an entry of that key
--          {'late'}                           a later call of the lane has been here: nothing was done
--
-- A call that was sent again after its connection broke gets the answer of the first one.

local stream = KEYS[1]
local call, rule, most = tonumber(ARGV[1]), ARGV[3], tonumber(ARGV[4])
local unique, width = tonumber(ARGV[5]), tonumber(ARGV[6])
local FIRST = 7

local before = redis.call('GET', KEYS[2])
if before then
  local last, answer = unpack(cmsgpack.unpack(before))
  if last == call then
    return answer
  elseif last > call then
    return {'late'}
  end
end

local function remember(answer)
  redis.call('SET', KEYS[2], cmsgpack.pack({call, answer}), 'PX', ARGV[2])
  return answer
end

-- How many entries come after an id, counted no further than to `most`. In small pages: payloads may be large.
local function count_after(id)
  local count = 0
  while count < most do
    local page = redis.call('XRANGE', stream, '(' .. id, '+', 'COUNT', 20)
    count = count + #page
    if #page < 20 then
      return count
    end
    id = page[#page][1]
  end
  return count
end

-- How much the slowest group has not read, and its name.
local function unread(length)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err or #groups == 0 then
    return length, ''
  end
  local slowest, name = -1, ''
  for _, row in ipairs(groups) do
    local info = {}
    for i = 1, #row, 2 do
      info[row[i]] = row[i + 1]
    end
    local lag = info.lag
    if type(lag) ~= 'number' then  -- before 7.0, after XDEL, for a group that began in the middle
      lag = count_after(info['last-delivered-id'])
    end
    if lag > slowest then
      slowest, name = lag, info.name
    end
  end
  return slowest, name
end

if unique > 0 then
  local id = redis.call('GET', KEYS[3])
  if id then
    return remember({'known', id})
  end
end

local wanted = (#ARGV - FIRST + 1) / width
local room, waiting, group = wanted, 0, ''
if rule == 'unread' then
  local length = redis.call('XLEN', stream)
  if wanted == 0 or length + wanted > most then  -- else there is room, whoever has read what
    waiting, group = unread(length)
    room = math.max(0, math.min(wanted, most - waiting))
  end
end

local answer = {'added', waiting, group}
for n = 1, room do
  local from = FIRST + (n - 1) * width
  local id
  if rule == '~' or rule == '=' then
    id = redis.call('XADD', stream, 'MAXLEN', rule, most, '*', unpack(ARGV, from, from + width - 1))
  else
    id = redis.call('XADD', stream, '*', unpack(ARGV, from, from + width - 1))
  end
  answer[3 + n] = id
end
if unique > 0 and room > 0 then
  redis.call('SET', KEYS[3], answer[4], 'PX', unique)
end
if wanted == 0 then
  return answer  -- a question only
end
return remember(answer)
