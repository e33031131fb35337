-- All steps of a create on a server that holds log and queue, as one (see shared/joined.py). In front of it stand
-- admit.lua, create.lua and confirm.lua, as functions of the keys and arguments that each takes alone.
-- KEYS: the stream's five; the key's rate, the key's streams, arq's queue (admit.lua's); the unfinished (sorted set);
--       where the job's payload goes (string)
-- ARGV: five of admit.lua; the job, its payload, its life in ms; the ms of this clock until which the caller waits;
--       then those of create.lua
-- Out:  {'ok', now in ms, create.lua's answer} | a refusal of admit.lua's | {'late', now in ms}
local stream_id, job, payload, life_ms, until_ms = ARGV[1], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local QUEUE, UNFINISHED, JOB = KEYS[8], KEYS[9], KEYS[10]
-- One that was made by this very call, whose reply was lost, takes nothing again.
local answer = remembered('create', ARGV[10])
if answer then
  return {'ok', now_ms(), answer}
end
if now_ms() > tonumber(until_ms) then
  return {'late', now_ms()}
end
local admitted = admit({unpack(KEYS, 6, 8)}, {unpack(ARGV, 1, 5)})
if admitted[1] ~= 'ok' then
  return admitted
end
local now = admitted[2]
answer = create(KEYS, {unpack(ARGV, 10)})
redis.call('ZADD', UNFINISHED, 'NX', now, stream_id)
confirm(KEYS, {})
redis.call('SET', JOB, payload, 'PX', life_ms)
redis.call('ZADD', QUEUE, 'NX', now, job)
return {'ok', now, answer}
