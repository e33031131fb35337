-- Release a stream before its end, so that the next claim need not wait for the lease.
-- ARGV: nonce, epoch, how: handover or fallback (no try is counted) or retry; then field and value pairs, for a
--       fallback: its request, and the record's fields about its provider and model
-- Out:  released <attempt> | fenced | gone
local nonce, epoch, how = unpack(ARGV)
if redis.call('EXISTS', META) == 0 then
  return 'gone'
end
local reply = remembered('release', nonce)
if reply then
  return reply
end
if field('epoch') ~= epoch or terminal(field('status')) then
  return 'fenced'
end
redis.call('DEL', LEASE)
redis.call('HSET', META, 'released', how, unpack(ARGV, 4))
return remember('release', nonce, 'released', field('attempt'))
