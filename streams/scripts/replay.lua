-- Put dead letters back into the stream they came from, each with its original fields and a new id.
--
-- KEYS  1  the dead-letter stream
--       2  the stream they came from
-- ARGV  ids of dead letters
--
-- Returns a list with one text per id, up to and including the first error:
--   '<id>'       the new id in KEYS[2]; the letter is gone from KEYS[1]
--   'gone'       not in KEYS[1], or not any more: somebody else was faster
--   'foreign'    not a letter of ours from KEYS[2]: left alone
--   'error:...'  XADD failed: this letter and those behind it are left alone
--
-- A letter is looked up, added and removed in one script: two replays at once never add it twice. XDEL comes
-- last, for scripts do not roll back: a letter that could not be added stays.

-- letter.lua puts 12 pairs of its own before the fields: `rsq:v` first, `rsq:stream` third, `rsq:packed` last.
local META = 24

local dlq, stream = KEYS[1], KEYS[2]

-- Calls Redis with list[1..n] as arguments, any number of them: `unpack` gives up near 8000 (LUAI_MAXCSTACK),
-- a growing argument list of a Lua function does not, and tail calls do not nest.
local function call(list, n, ...)
  if n == 0 then
    return redis.pcall(...)
  end
  if n < 20 then
    return call(list, n - 1, list[n], ...)
  end
  return call(list, n - 20,
    list[n - 19], list[n - 18], list[n - 17], list[n - 16], list[n - 15],
    list[n - 14], list[n - 13], list[n - 12], list[n - 11], list[n - 10],
    list[n - 9], list[n - 8], list[n - 7], list[n - 6], list[n - 5],
    list[n - 4], list[n - 3], list[n - 2], list[n - 1], list[n], ...)
end

local function original(letter)
  if letter[1] ~= 'rsq:v' or letter[2] ~= '1' or letter[5] ~= 'rsq:stream' or letter[6] ~= stream
      or letter[META - 1] ~= 'rsq:packed' or #letter < META + 2 then
    return nil
  end
  if letter[META] == '0' then
    return letter, META + 1
  end
  local readable, fields = pcall(cmsgpack.unpack, letter[META + 2])
  if readable and type(fields) == 'table' and #fields > 0 then
    return fields, 1
  end
end

local function replay(id)
  local entry = redis.call('XRANGE', dlq, id, id)[1]
  if not entry then
    return 'gone'
  end
  local fields, first = original(entry[2])
  if not fields then
    return 'foreign'
  end
  local command = {'XADD', stream, '*'}
  for i = first, #fields do
    command[#command + 1] = fields[i]
  end
  local added = call(command, #command)
  if type(added) == 'table' then
    return 'error:' .. added.err
  end
  redis.call('XDEL', dlq, id)
  return added
end

local results = {}
for i, id in ipairs(ARGV) do
  results[i] = replay(id)
  if string.sub(results[i], 1, 6) == 'error:' then
    break
  end
end
return results
