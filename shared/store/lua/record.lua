-- Make a stream: its record and its `queued` event.
-- ARGV: nonce, the caller's deadline (ms of this server's clock), request hash, owner, data of `queued`, then field and
--       value pairs
-- Out:  created <id> | exists <status> <created_ms> | conflict | late <now>: the deadline is over; nothing was made
local nonce, until_ms, hash, owner, data = unpack(ARGV, 1, 5)
if redis.call('EXISTS', META) == 1 then
  local reply = remembered('create', nonce)
  if reply then
    return reply
  end
  if field('request_hash') ~= hash or field('owner') ~= owner then
    return 'conflict'
  end
  return 'exists ' .. field('status') .. ' ' .. field('created_ms')
end
local now = now_ms()
if now > tonumber(until_ms) then
  return 'late ' .. int(now)
end
local epoch = int(now)
local id = epoch .. '-0'
redis.call('DEL', LOG, SNAPSHOT, LEASE)
redis.call('HSET', META, 'status', 'queued', 'epoch', epoch, 'attempt', '0', 'tries', '0', 'owner', owner,
  'request_hash', hash, 'created_ms', epoch, 'text_from', id, unpack(ARGV, 6))
redis.call('XADD', LOG, id, 'e', 'queued', 'd', data)
return remember('create', nonce, 'created', id)
