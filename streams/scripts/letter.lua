-- How a dead letter is made of an entry; goes in front of the scripts that write letters.

-- `unpack` gives up near 8000 values (LUAI_MAXCSTACK). Longer entries go into one field.
local UNPACK_MAX = 4000

-- Returns what XADD answers: an id, or a table with `err`.
local function write_letter(stream, dlq, group, consumer, id, fields, attempts, reason, error, traceback, first, last)
  -- Readers go by position: the order and number of these pairs are the format.
  local letter = {
    'rsq:v', '1',
    'rsq:id', id,
    'rsq:stream', stream,
    'rsq:group', group,
    'rsq:consumer', consumer,
    'rsq:attempts', attempts,
    'rsq:reason', reason,
    'rsq:error', error,
    'rsq:traceback', traceback,
    'rsq:first', first,
    'rsq:last', last,
  }
  local n = #letter
  if n + 2 + #fields <= UNPACK_MAX then
    letter[n + 1], letter[n + 2] = 'rsq:packed', '0'
    for i = 1, #fields do
      letter[n + 2 + i] = fields[i]
    end
  else
    letter[n + 1], letter[n + 2] = 'rsq:packed', '1'
    letter[n + 3], letter[n + 4] = 'rsq:fields', cmsgpack.pack(fields)
  end
  return redis.pcall('XADD', dlq, '*', unpack(letter))
end
