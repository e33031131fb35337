-- Make a provisional record and its `queued` event; both vanish unless they are confirmed in time.
-- ARGV: nonce, life in ms, request hash, owner, data of `queued`, epoch (0: a new one; else that of the very
--       record that is written again because the server lost it), then field and value pairs
-- Out:  created <id> <now> | exists <status> <confirmed> <attempt> <epoch> | conflict
local nonce, life_ms, hash, owner, data, again = unpack(ARGV, 1, 6)
if redis.call('EXISTS', META) == 1 then
  local answer = remembered('create', nonce)
  if answer then
    return answer
  end
  if field('request_hash') ~= hash or field('owner') ~= owner then
    return 'conflict'
  end
  if field('confirmed') ~= '1' then
    redis.call('PEXPIRE', META, life_ms)
    redis.call('PEXPIRE', LOG, life_ms)
  end
  return table.concat({'exists', field('status'), field('confirmed'), field('attempt'), field('created_ms')}, ' ')
end
local now = now_ms()
local epoch = again == '0' and int(now) or again
local id = epoch .. '-0'
redis.call('DEL', LOG, SNAPSHOT, LEASE)
redis.call('HSET', META, 'status', 'queued', 'confirmed', '0', 'epoch', epoch, 'attempt', '0', 'tries', '0',
  'owner', owner, 'request_hash', hash, 'created_ms', epoch, 'text_from', id, unpack(ARGV, 7))
redis.call('XADD', LOG, id, 'e', 'queued', 'd', data)
redis.call('PEXPIRE', META, life_ms)
redis.call('PEXPIRE', LOG, life_ms)
if again ~= '0' then
  redis.call('HSET', META, 'restored_ms', int(now))
end
return remember('create', nonce, 'created', id, int(now))
