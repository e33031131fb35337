-- Make a provisional record and its `queued` event; both vanish unless they are confirmed in time.
-- ARGV: nonce, life in ms, request hash, owner, data of `queued`, epoch (0: a new one; else that of the very
--       record that is written again because the server lost it), 1 if others may have made a stream of this id before,
--       then field and value pairs
-- Out:  created <id> <now> | exists <status> <confirmed> <attempt> <epoch> | conflict
local nonce, life_ms, hash, owner, data, again, known = unpack(ARGV, 1, 7)
if redis.call('EXISTS', META) == 1 then
  local answer = remembered('create', nonce)
  if answer then
    return answer
  end
  if field('request_hash') ~= hash or field('owner') ~= owner then
    return 'conflict'
  end
  -- One that was made in the place of this lost one gives it back, as long as nobody has begun it.
  local untouched = field('status') == 'queued' and field('attempt') == '0' and field('cancelling') == ''
  if again == '0' or not untouched or tonumber(again) >= tonumber(field('epoch')) then
    if field('confirmed') ~= '1' then
      redis.call('PEXPIRE', META, life_ms)
      redis.call('PEXPIRE', LOG, life_ms)
    end
    return table.concat({'exists', field('status'), field('confirmed'), field('attempt'), field('created_ms')}, ' ')
  end
end
local now = now_ms()
local up, run = server_run()
local epoch = again == '0' and int(now) or again
local id = epoch .. '-0'
redis.call('DEL', META, LOG, SNAPSHOT, LEASE)
redis.call('HSET', META, 'status', 'queued', 'confirmed', '0', 'epoch', epoch, 'attempt', '0', 'tries', '0',
  'owner', owner, 'request_hash', hash, 'created_ms', epoch, 'run', run,
  'text_from', id, unpack(ARGV, 8))
redis.call('XADD', LOG, id, 'e', 'queued', 'd', data)
redis.call('PEXPIRE', META, life_ms)
redis.call('PEXPIRE', LOG, life_ms)
-- Who spoke in it comes right behind a record that is written again. One that may only seem to be new, for the server
-- has just started, is left alone until whoever made it before had the time to write it again.
if again ~= '0' or (known == '1' and up and up * 1000 < SETTLED_MS) then
  redis.call('HSET', META, 'restored_ms', int(again ~= '0' and now or now - up * 1000))
end
return remember('create', nonce, 'created', id, int(now))
