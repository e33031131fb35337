-- Give a stream back before its end, so that the next claim need not wait for the lease.
-- ARGV: nonce, epoch, how: handover or fallback (no try is counted) or retry; then field and value pairs, for a
--       fallback: the request that it moved to, and what the record tells of who speaks
-- Out:  released <attempt> | fenced | gone
local nonce, epoch, how = unpack(ARGV)
if redis.call('EXISTS', META) == 0 then
  return 'gone'
end
local answer = remembered('release', nonce)
if answer then
  return answer
end
if field('epoch') ~= epoch or terminal(field('status')) then
  return 'fenced'
end
redis.call('DEL', LEASE)
redis.call('HSET', META, 'released', how, unpack(ARGV, 4))
return remember('release', nonce, 'released', field('attempt'))
