-- A keeper's beat: go on with the instance lease; while it is ours, do all that follows from it. Sent with
-- lease.lua, marks.lua, bulk.lua and waiting.lua in front.
--
-- KEYS  1  the instance lease     4  hash of reports     7  the stream
--       2  the counter of epochs  5  hash of orders
--       3  the leader lease       6  hash of what was swept
--       8  hash of waiting records          9  hash of stories
-- ARGV  1  token: random, of whoever asks
--       2  holder of the instance lease: for people, may contain spaces
--       3  instance: field of its report, and holder of the leader lease
--       4  time to live of both leases, ms
--       5  report
--       6  field of the order to drain this instance
--       7  field of the order of how many workers it is to have
--       8  group
--       9  entries idle for so long are renewed, ms
--      10  how many pending entries to look at, at most
--      11  which of the consumers below to begin with: 1 is the first
--      12  the entry to begin with there: "-", or "(" and an id
--      13  n: how many fields of what was swept follow, then
--      14  m: how many consumers follow whose entries are renewed, and how many after them are let go
--      15 ... n fields, m consumers, consumers to let go
--
-- Returns  {lease}                                  another has it: nothing else was done
--          {lease, lead, pause, drain, size, swept, next consumer, next entry, resting, let go, trouble}
--          lease, lead   {code, epoch, left, value} as in lease.lua
--          pause, drain, size  the orders' values or nil; false becomes nil
--          next          where to go on, 0 when all was looked at
--          resting       how many entries that rest were seen, for each of the consumers to renew; not all of
--                        many are looked at
--          let go        how many entries were made suspects, for each of the consumers to let go; what waits
--                        there and was not started rests as it is
--          trouble       the error of the stream or the group, or nil
--
-- XPENDING names the owner and XCLAIM follows in the same script: nobody's entry is taken. What rests is left
-- alone: it must stay visible that nobody has it in hand.

local token, ttl = ARGV[1], ARGV[4]

local lease = acquire(KEYS[1], KEYS[2], token, ARGV[2], ttl)
if lease[1] == 0 then
  return {lease}
end
local lead = acquire(KEYS[3], KEYS[2], token, ARGV[3], ttl)

-- Ask a hash of ours; one that somebody has put a value of another type into is removed, and empty.
local function hash(key, ...)
  local reply = redis.pcall(...)
  if garbled(reply) then
    redis.call('DEL', key)
    reply = redis.pcall(...)
  end
  return reply
end

-- A server that is full refuses the report: the lease matters more.
hash(KEYS[4], 'HSET', KEYS[4], ARGV[3], ARGV[5])
local orders = hash(KEYS[5], 'HMGET', KEYS[5], 'pause', ARGV[6], ARGV[7])

local fields, renewed = {}, {}
local at = 15
for i = 1, tonumber(ARGV[13]) do
  fields[i] = ARGV[at]
  at = at + 1
end
for i = 1, tonumber(ARGV[14]) do
  renewed[i] = ARGV[at]
  at = at + 1
end
local swept = #fields > 0 and hash(KEYS[6], 'HMGET', KEYS[6], unpack(fields)) or {}

local stream, group = KEYS[7], ARGV[8]
local budget, first = tonumber(ARGV[10]), ARGV[12]
local number, trouble = tonumber(ARGV[11]), false
local SEEN, LET_GO = 100, 3  -- a row that is let go costs as much as three that are renewed
local resting, gone = {}, {}
for i = 1, #renewed do
  resting[i] = 0
end
for i = 1, #ARGV - at + 1 do
  gone[i] = 0
end

-- Look at a page of a slot's entries; return how many of them were claimed, how many rest, and how many
-- are deleted. With `let_go` they are made suspects, and what waits and was not started is let rest.
local function claim(slot, least, let_go)
  local cost = let_go and LET_GO or 1
  local most = math.max(1, math.floor(budget / cost))
  local rows = redis.pcall('XPENDING', stream, group, 'IDLE', least, first, '+', most, slot)
  if rows.err then
    trouble = rows.err
    return 0, 0, 0
  end
  local rest, wanted, claimed = 0, {}, 0
  for _, row in ipairs(rows) do
    if row[3] >= RESTING then
      rest = rest + 1
    elseif let_go and is_waiting(row[1], row[2], row[4]) then
      put_to(slot .. REST_OWNER, 0, row[1], math.max(0, row[4] - 1))
    else
      wanted[#wanted + 1] = row[1]
      put_to(let_go and slot .. SUSPECT_OWNER or slot, 0, row[1])
    end
  end
  local done = put_all(stream, group)
  for _, id in ipairs(wanted) do
    claimed = claimed + (done[id] and 1 or 0)
  end
  if #rows < most then
    budget, first = math.max(1, budget - cost * #rows), '-'
  else
    budget, first = 0, '(' .. rows[#rows][1]
  end
  return claimed, rest, #wanted - claimed
end

-- Return how many of a slot's entries have owners with a mark, of each not more than SEEN.
local function marked(slot)
  local found = 0
  for _, name in ipairs({slot .. REST_OWNER, slot .. SUSPECT_OWNER}) do
    local rows = redis.pcall('XPENDING', stream, group, '-', '+', SEEN, name)
    found = found + (rows.err and 0 or #rows)
  end
  return found
end

while number <= #resting + #gone and budget > 0 and not trouble do
  if number <= #resting then
    local _, rest = claim(renewed[number], ARGV[9], false)
    resting[number] = rest + (trouble and 0 or marked(renewed[number]))
  else
    local i = number - #resting
    local done, _, deleted = claim(ARGV[at + i - 1], 0, true)
    gone[i] = done
    if deleted > 0 then  -- from 7.0 on, a claim drops what is deleted from the stream: nobody else would see it
      redis.pcall('HINCRBY', KEYS[6], 'lost', deleted)
    end
  end
  if budget > 0 then
    number = number + 1
  end
end
if trouble or number > #resting + #gone then
  number, first = 0, '-'
end
return {lease, lead, orders[1], orders[2], orders[3], swept, number, first, resting, gone, trouble}
