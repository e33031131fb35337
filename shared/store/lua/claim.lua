-- Take a stream: a new epoch, which fences every older writer, a new attempt, and its opening event.
-- ARGV: nonce, worker, lease in ms, most tries; how to go on (continue, restart, anew: as restart, but nothing that
--       counts was said; fail; or '' where that was not looked at yet), the log's last id when it was looked at
-- Out:  {answer, request}, answer being one of
--   look <last id>: on_failure is continue (or continue_or_fail), and something was said. Nothing was changed: read
--       what was said, and claim again with how to go on
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

local answer = remembered('claim', nonce)
if answer and field('claimed_epoch') == field('epoch') then
  take(field('epoch'), worker, lease_ms)
  return {answer, field('request')}
end
if redis.call('EXISTS', LEASE) == 1 then
  return {'leased', ''}
end

local last_id, last_type = last_entry()
local now = now_ms()
local epoch = int(next_epoch(now))
local released = field('released')
-- A hand-over and a fallback are nobody's failure to answer.
local counts = released ~= 'handover' and released ~= 'fallback'
local attempt, tries = tonumber(field('attempt')), tonumber(field('tries'))
local said_type = last_type
if HOLDS[last_type] then
  -- Held back: what was said stands before that.
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
  -- One that told nothing itself was lost with its worker.
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
-- Where nothing was said yet nobody notices: the new attempt opens as the first one did.
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
