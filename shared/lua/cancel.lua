-- End a stream from outside: the terminal event goes under a new epoch, so that the worker's next append
-- is refused.
-- ARGV: nonce, data, retention in ms, keep the prompt (1 or 0), epoch (0: a new one; else that of the very
--       cancel that is written again because the server lost it), 1 to announce that, and for how long the caller had no
--       trouble with the server in ms (see prelude.lua for both)
-- Out:  cancelled <id> | announced | ended <status> | gone | settling: try again in a moment (see prelude.lua)
local nonce, data, retention_ms, keep_prompt, again, announce, calm_ms = unpack(ARGV)
if redis.call('EXISTS', META) == 0 then
  return 'gone'
end
local answer = remembered('cancel', nonce)
if answer then
  return answer
end
write_announced()
local status = field('status')
if terminal(status) then
  return 'ended ' .. status
end
if again == '0' and settling(tonumber(calm_ms), 15) then
  return 'settling'
end
assert(ALLOWED[status]['cancelled'])
if announce == '1' then
  redis.call('HSET', META, 'cancelling', table.concat({int(now_ms()), nonce, again, retention_ms, keep_prompt, data}, ' '))
  return 'announced'
end
local epoch = int(math.max(tonumber(again), next_epoch(again == '0' and now_ms() or 0)))
return write_cancel(nonce, epoch, retention_ms, keep_prompt, data)
