-- End a stream by its writer: the finish reason, the terminal event, the last of the snapshot, the record, the expiry.
-- ARGV: nonce, epoch, n, status, data, retention in ms, keep the prompt (1 or 0),
--       snapshot: id of its last event ('': no step), offset, chunk; data of the `finishing` event ('': none), which
--       gets the id n (then the terminal event gets n + 1); then field and value pairs
-- Out:  finished <id> | ended <status> | fenced | behind <last id> | mismatch <length> | gone
local nonce, epoch, n, status, data, retention_ms, keep_prompt, as_of, offset, chunk, finishing = unpack(ARGV, 1, 11)
if redis.call('EXISTS', META) == 0 then
  return 'gone'
end
local reply = remembered('finish', nonce)
if reply then
  return reply
end
if terminal(field('status')) then
  return 'ended ' .. field('status')
end
if field('epoch') ~= epoch then
  return 'fenced'
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
if finishing ~= '' then
  redis.call('XADD', LOG, 'NOMKSTREAM', epoch .. '-' .. n, 'e', 'finishing', 'd', finishing)
  n = int(tonumber(n) + 1)
end
local id = epoch .. '-' .. n
local entry = {'e', status, 'd', data}
if n == '0' then
  entry[5], entry[6] = 'a', last_id
end
redis.call('XADD', LOG, 'NOMKSTREAM', id, unpack(entry))
if #ARGV > 11 then
  redis.call('HSET', META, unpack(ARGV, 12))
end
close(status, now_ms(), retention_ms, keep_prompt)
return remember('finish', nonce, 'finished', id)
