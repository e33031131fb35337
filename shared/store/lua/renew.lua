-- Keep a lease alive. It is compared before it is extended, because a zombie must not renew its successor's lease. A
-- lease that expired (or was lost with the server) is taken again, as long as no other claim has come: the epoch in the
-- record tells.
-- ARGV: worker, epoch, lease in ms
-- Out:  held | lost (to a later epoch, to the stream's end, or with the record)
local worker, epoch, lease_ms = unpack(ARGV)
local value = worker .. ':' .. epoch
local holder = redis.call('GET', LEASE)
if holder == value then
  redis.call('PEXPIRE', LEASE, lease_ms)
  return 'held'
end
if not holder and field('epoch') == epoch and field('status') == 'running' and field('released') == '' then
  redis.call('SET', LEASE, value, 'PX', lease_ms)
  return 'held'
end
return 'lost'
