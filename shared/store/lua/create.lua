-- Create a stream on a server that holds log and queue: quota, record, unfinished set and job in one step (see
-- shared/store/create.py). In front of it stand admit.lua, record.lua and enqueue.lua, as functions of the keys and arguments
-- that each takes alone.
-- KEYS: the stream's five; eight of admit.lua; six of enqueue.lua
-- ARGV: ten of admit.lua; six of enqueue.lua; then those of record.lua
-- Out:  {record.lua's answer, now in ms} | a refusal of admit.lua's
local until_ms = ARGV[18]
local now = now_ms()
-- One that is there takes nothing of the quota again.
if redis.call('EXISTS', META) == 0 then
  if now > tonumber(until_ms) then
    return {'late', now}
  end
  local admitted = admit({unpack(KEYS, 6, 13)}, {unpack(ARGV, 1, 10)})
  if admitted[1] ~= 'ok' then
    return admitted
  end
end
local answer = record(KEYS, {unpack(ARGV, 17)})
if field('status') == 'queued' and answer ~= 'conflict' then
  enqueue({unpack(KEYS, 14)}, {unpack(ARGV, 11, 16)})
end
return {answer, now}
