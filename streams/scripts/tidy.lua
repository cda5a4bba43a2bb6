-- Remove records and stories of entries that are pending no more.
--
-- Sent behind fence.lua and waiting.lua.
--
-- KEYS  4  hash of waiting records
--       5  hash of stories
-- ARGV  3  cursor: 0 to begin with
--       4  how many to look at, about
--       5  which of both: waiting or stories
--
-- Returns  cursor: 0 when all were looked at, -1 when it cannot be done; how many were removed

local function tidy(key)
  local reply = redis.pcall('HSCAN', key, ARGV[3], 'COUNT', ARGV[4])
  if reply.err then  -- not a hash, or the user may not do that
    return '-1', 0
  end
  local removed = 0
  for at = 1, #reply[2], 2 do
    local id = reply[2][at]
    local row = redis.pcall('XPENDING', stream, group, id, id, 1)
    if row.err or not row[1] then
      forget(id)
      removed = removed + 1
    end
  end
  return reply[1], removed
end

local cursor, removed = tidy(ARGV[5] == 'stories' and STORIES or WAITING)
return {cursor, removed}
