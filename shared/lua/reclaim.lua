-- Open an attempt again whose claim the server lost: it restarted from its append-only file without its last
-- seconds. The worker still has everything that this attempt said, and writes it again behind this opening.
-- ARGV: worker, epoch, lease in ms (0: the attempt has ended, and takes none), opening, id behind which a `continued` attempt went on ('' for others); then
--       field and value pairs: who speaks, for a fallback may be lost, too
-- Out:  open | fenced | ended <status> | provisional | gone | behind (the log ends before that id: whoever wrote
--       the attempt before is about to write it again)
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
if last_id == epoch .. '-0' and (holder == mine or lease_ms == '0') then
  return 'open'
end
local others = holder and string.sub(holder, 1, #worker + 1) ~= worker .. ':'
if others or tonumber(field('epoch')) >= tonumber(epoch) then
  return 'fenced'
end
if after ~= '' and after ~= last_id then
  local e, n = string.match(last_id, '^(%d+)-(%d+)$')
  local to_e, to_n = string.match(after, '^(%d+)-(%d+)$')
  e, n, to_e, to_n = tonumber(e), tonumber(n), tonumber(to_e), tonumber(to_n)
  return (not e or e < to_e or (e == to_e and n < to_n)) and 'behind' or 'fenced'
end
redis.call('HSET', META, unpack(ARGV, 6))
open_attempt(opening, epoch, worker, lease_ms, last_id, now_ms(), true)
return 'open'
