-- Create a stream on a server that holds log and queue: quota, record, unfinished set and job in one step (see
-- shared/create.py). In front of it stand admit.lua and record.lua, as functions of the keys and arguments that each
-- takes alone.
-- KEYS: the stream's five; those of admit.lua (the key's rate, the key's streams, arq's queue, the unfinished); the job
-- ARGV: five of admit.lua; job id, payload, life of the payload in ms; then those of record.lua
-- Out:  {record.lua's answer, now in ms} | a refusal of admit.lua's
local job_id, payload, life_ms, until_ms = ARGV[6], ARGV[7], ARGV[8], ARGV[10]
local QUEUE, JOB = KEYS[8], KEYS[10]
local now = now_ms()
-- One that is there takes nothing of the quota again.
if redis.call('EXISTS', META) == 0 then
  if now > tonumber(until_ms) then
    return {'late', now}
  end
  local admitted = admit({unpack(KEYS, 6, 9)}, {unpack(ARGV, 1, 5)})
  if admitted[1] ~= 'ok' then
    return admitted
  end
end
local answer = record(KEYS, {unpack(ARGV, 9)})
if field('status') == 'queued' and answer ~= 'conflict' then
  redis.call('SET', JOB, payload, 'PX', life_ms)
  redis.call('ZADD', QUEUE, 'NX', now, job_id)
end
return {answer, now}
