-- Make a provisional record last. Repeating it changes nothing.
-- Out: confirmed | ended <status> | gone
if redis.call('EXISTS', META) == 0 then
  return 'gone'
end
local status = field('status')
if terminal(status) then
  return 'ended ' .. status
end
redis.call('HSET', META, 'confirmed', '1')
redis.call('PERSIST', META)
redis.call('PERSIST', LOG)
return 'confirmed'
