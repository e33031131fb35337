-- End a stream from outside: the terminal event goes under a new epoch, so that the worker's next append
-- is refused. The caller names that epoch, so that it knows the event's id before anybody can see it. Where it isn't
-- later than all others, `first` writes nothing and answers the epoch to name, and `again` takes the next one.
-- ARGV: nonce, data, retention in ms, keep the prompt (1 or 0), epoch (0: none yet), for how long the caller had no
--       trouble with the server in ms, and how: first, or (where the server may have lost it, see prelude.lua)
--       announce or again
-- Out:  cancelled <id> | epoch <epoch> | announced | ended <status> | gone | settling: try again in a moment
local nonce, data, retention_ms, keep_prompt, epoch, calm_ms, how = unpack(ARGV)
if redis.call('EXISTS', META) == 0 then
  return 'gone'
end
if tonumber(epoch) > 0 and tonumber(epoch) <= tonumber(field('created_ms')) then
  return 'gone' -- the stream that was meant was erased, and the same Idempotency-Key made this one
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
if how == 'first' and settling(tonumber(calm_ms), 15) then
  return 'settling'
end
assert(ALLOWED[status]['cancelled'])
if how == 'announce' then
  redis.call('HSET', META, 'cancelling', table.concat({int(now_ms()), nonce, epoch, retention_ms, keep_prompt, data}, ' '))
  return 'announced'
end
local least = next_epoch(0)
if tonumber(epoch) < least then
  if how == 'first' then
    return 'epoch ' .. int(math.max(least, now_ms()))
  end
  epoch = int(least)
end
return write_cancel(nonce, epoch, retention_ms, keep_prompt, data)
