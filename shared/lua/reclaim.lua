-- Open an attempt again whose claim the server lost: it restarted from its append-only file without its last
-- seconds. The worker still has everything that this attempt said, and writes it again behind this opening.
-- ARGV: worker, epoch, lease in ms, opening, id behind which a `continued` attempt went on ('' for others); then
--       field and value pairs: who speaks, for a fallback may be lost, too
-- Out:  open | fenced | ended <status> | provisional | gone
local worker, epoch, lease_ms, opening, after = unpack(ARGV)
if redis.call('EXISTS', META) == 0 then
  return 'gone'
end
local status = field('status')
if terminal(status) then
  return 'ended ' .. status
end
if field('confirmed') ~= '1' then
  return 'provisional'
end
local last_id = last_entry()
local holder = redis.call('GET', LEASE)
local mine = worker .. ':' .. epoch
if holder == mine and last_id == epoch .. '-0' then
  return 'open'
end
if holder or tonumber(field('epoch')) >= tonumber(epoch) or (after ~= '' and after ~= last_id) then
  return 'fenced'
end
redis.call('HSET', META, unpack(ARGV, 6))
open_attempt(opening, epoch, worker, lease_ms, last_id, now_ms(), true)
return 'open'
