-- End a stream from outside: the terminal event gets a new epoch, so that the worker's next append is refused.
-- ARGV: nonce, data, retention in ms, keep the prompt (1 or 0)
-- Out:  cancelled <id> | ended <status> | gone
local nonce, data, retention_ms, keep_prompt = unpack(ARGV)
if redis.call('EXISTS', META) == 0 then
  return 'gone'
end
local reply = remembered('cancel', nonce)
if reply then
  return reply
end
local status = field('status')
if terminal(status) then
  return 'ended ' .. status
end
assert(ALLOWED[status]['cancelled'])
local now = now_ms()
local epoch = int(next_epoch(now))
local id = epoch .. '-0'
local last_id = last_entry()
redis.call('XADD', LOG, 'NOMKSTREAM', id, 'e', 'cancelled', 'd', data, 'a', last_id)
redis.call('HSET', META, 'epoch', epoch, 'result', data)
close('cancelled', now, retention_ms, keep_prompt)
return remember('cancel', nonce, 'cancelled', id)
