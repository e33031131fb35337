-- Create a stream on a server that holds log and queue: quota, record, unfinished set and job in one step (see
-- shared/store/create.py). admit.lua, record.lua and enqueue.lua stand in front of this script, each as a function of
-- its own keys and arguments.
-- KEYS: the stream's five; eight of admit.lua; six of enqueue.lua
-- ARGV: ten of admit.lua; six of enqueue.lua; then those of record.lua
-- Out:  {record.lua's reply, now in ms} | a refusal of admit.lua | {'late', now in ms}
local until_ms = ARGV[18]
local now = now_ms()
-- A repeated create of an existing stream takes nothing from the quota again.
if redis.call('EXISTS', META) == 0 then
  if now > tonumber(until_ms) then
    return {'late', now}
  end
  local admitted = admit({unpack(KEYS, 6, 13)}, {unpack(ARGV, 1, 10)})
  if admitted[1] ~= 'ok' then
    return admitted
  end
end
local reply = record(KEYS, {unpack(ARGV, 17)})
if field('status') == 'queued' and reply ~= 'conflict' then
  enqueue({unpack(KEYS, 14)}, {unpack(ARGV, 11, 16)})
end
return {reply, now}
