-- End a stream from outside: the terminal event goes under a new epoch, so that the worker's next append
-- is refused.
-- ARGV: nonce, data, retention in ms, keep the prompt (1 or 0), epoch (0: a new one; else that of the very
--       cancel that is written again because the server lost it), and 1 to announce that: the worker first writes
--       again what was said before, and meanwhile nobody else claims or ends the stream (for a minute at most)
-- Out:  cancelled <id> | announced | ended <status> | gone | settling: try again in a moment (see prelude.lua)
local nonce, data, retention_ms, keep_prompt, again, announce = unpack(ARGV)
if redis.call('EXISTS', META) == 0 then
  return 'gone'
end
local answer = remembered('cancel', nonce)
if answer then
  return answer
end
local status = field('status')
if terminal(status) then
  return 'ended ' .. status
end
if again == '0' and settling() then
  return 'settling'
end
assert(ALLOWED[status]['cancelled'])
local now = now_ms()
if announce == '1' then
  redis.call('HSET', META, 'cancelling', int(now))
  return 'announced'
end
local epoch = int(math.max(tonumber(again), next_epoch(again == '0' and now or 0)))
local id = epoch .. '-0'
local last_id = last_entry()
redis.call('XADD', LOG, 'NOMKSTREAM', id, 'e', 'cancelled', 'd', data, 'a', last_id)
redis.call('HSET', META, 'epoch', epoch, 'result', data)
close('cancelled', now, retention_ms, keep_prompt)
return remember('cancel', nonce, 'cancelled', id)
