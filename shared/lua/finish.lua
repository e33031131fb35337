-- End a stream by its writer: its last word, the terminal event, the last of the snapshot, the record, the expiry.
-- ARGV: nonce, epoch, n, status, data, retention in ms, keep the prompt (1 or 0),
--       snapshot: id as of which ('' for none), offset, chunk; again (1: this end was written before, and lost);
--       the data of a `finishing` that comes at n, and the end behind it ('' for none); then field and value pairs
-- Out:  finished <id> | ended <status> | fenced | behind <last id> | mismatch <length> | gone |
--       settling: try again in a moment (see prelude.lua)
local nonce, epoch, n, status, data, retention_ms, keep_prompt, as_of, offset, chunk, again, last_word =
  unpack(ARGV, 1, 12)
if redis.call('EXISTS', META) == 0 then
  return 'gone'
end
local answer = remembered('finish', nonce)
if answer then
  return answer
end
write_announced()
if terminal(field('status')) then
  return 'ended ' .. field('status')
end
if field('epoch') ~= epoch then
  return 'fenced'
end
if again ~= '1' and settling() then
  return 'settling'
end
assert(ALLOWED[field('status')][status] or n == '0')
local last_id = last_entry()
if n ~= '0' and last_id ~= epoch .. '-' .. int(tonumber(n) - 1) then
  return 'behind ' .. last_id
end
if as_of ~= '' then
  local size = grow(as_of, tonumber(offset), chunk)
  if size then
    return 'mismatch ' .. int(size)
  end
end
if last_word ~= '' then
  redis.call('XADD', LOG, 'NOMKSTREAM', epoch .. '-' .. n, 'e', 'finishing', 'd', last_word)
  n = int(tonumber(n) + 1)
end
local id = epoch .. '-' .. n
local entry = {'e', status, 'd', data}
if n == '0' then
  entry[5], entry[6] = 'a', last_id
end
redis.call('XADD', LOG, 'NOMKSTREAM', id, unpack(entry))
if #ARGV > 12 then
  redis.call('HSET', META, unpack(ARGV, 13))
end
close(status, now_ms(), retention_ms, keep_prompt)
return remember('finish', nonce, 'finished', id)
