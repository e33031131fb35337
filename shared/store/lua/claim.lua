-- Take a stream: a new epoch, which fences every older writer, a new attempt, and its opening event.
-- ARGV: nonce, worker, lease in ms, most tries; how to go on (continue; restart; anew: as restart, but no text was said
--       that counts; fail; '' before the log was read), the log's last id when it was read
-- Out:  {reply, request}. The reply is one of
--   look <last id>: on_failure is continue (or continue_or_fail), and something was said. Nothing was changed: read
--       the log, decide how to go on, and claim again
--   run <opening> <epoch> <attempt> <tries left> <created> <now>
--   end <why> <epoch> <attempt>: the caller has the lease and closes the stream with <epoch>-0; why is worker_lost or
--       attempts_exhausted
--   leased | ended <status> | gone
local HOLDS = {waiting = true, paused = true, resumed = true}
local nonce, worker, lease_ms, most_tries = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local how, seen = ARGV[5], ARGV[6]
if redis.call('EXISTS', META) == 0 then
  return {'gone', ''}
end
local status = field('status')
if terminal(status) then
  return {'ended ' .. status, ''}
end

local reply = remembered('claim', nonce)
if reply and field('claimed_epoch') == field('epoch') then
  take(field('epoch'), worker, lease_ms)
  return {reply, field('request')}
end
if redis.call('EXISTS', LEASE) == 1 then
  return {'leased', ''}
end

local last_id, last_type = last_entry()
local now = now_ms()
local epoch = int(next_epoch(now))
local released = field('released')
-- A hand-over and a fallback are no failed tries.
local counts = released ~= 'handover' and released ~= 'fallback'
local attempt, tries = tonumber(field('attempt')), tonumber(field('tries'))
local said_type = last_type
if HOLDS[last_type] then
  -- The stream was held back: look at the last event before that.
  for _, entry in ipairs(redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 100)) do
    local kind = entry[2][2]
    if not HOLDS[kind] then
      said_type = kind
      break
    end
  end
end
local said = said_type ~= 'queued' and said_type ~= 'started' and said_type ~= 'restart'

local why
if attempt > 0 and field('on_failure') == 'fail' and (said or counts) then
  why = 'worker_lost'
elseif counts and tries >= most_tries then
  why = 'attempts_exhausted'
end
local may_continue = said and string.sub(field('on_failure'), 1, 8) == 'continue'
if may_continue and not why and (how == '' or seen ~= last_id) then
  return {'look ' .. last_id, field('request')}
end
if attempt > 0 then
  -- An attempt that noted no end of its own was lost with its worker.
  redis.call('HSETNX', META, 'end:' .. int(attempt), released == '' and 'worker_lost' or released)
end
if may_continue and how == 'fail' then
  why = why or 'worker_lost'
end
if why then
  take(epoch, worker, lease_ms)
  return {remember('claim', nonce, 'end', why, epoch, int(attempt)), ''}
end

assert(ALLOWED[status]['running'])
-- If nothing was said yet, viewers notice no change: the new attempt opens like the first one.
local opening = said and 'restart' or 'started'
if may_continue and how == 'continue' then
  opening = 'continued'
elseif may_continue and how == 'anew' then
  opening = 'started'
end
take(epoch, worker, lease_ms)
attempt = open_attempt(opening, nonce, epoch, last_id, now, counts)
return {
  remember('claim', nonce, 'run', opening, epoch, int(attempt), int(most_tries - tonumber(field('tries'))),
    field('created_ms'), int(now)),
  field('request'),
}
