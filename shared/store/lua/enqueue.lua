-- Enqueue a stream's job in its lane (see shared/store/queue.py), once. On the queue's server, on keys without a hash
-- tag.
-- KEYS: arq's queue, the lanes (sorted set), the books (hash), the lane (sorted set), the job (string), the bell (sorted
--       set), which is rung if a worker may not take the waiting jobs and waits for a new one
-- ARGV: job id, payload, life of the payload in ms, owner, lane, its place ('' for the next one of its owner)
local QUEUE, LANES, BOOKS, LANE, JOB, BELL = unpack(KEYS, 1, 6)
local job, payload, life_ms, owner, lane, place = unpack(ARGV, 1, 6)
local KEPT_MS = 172800000

redis.call('SET', JOB, payload, 'PX', life_ms)
if redis.call('ZSCORE', QUEUE, job) then
  return 0
end
local tag = tonumber(place)
local served, last, listens = unpack(redis.call('HMGET', BOOKS, 'served', 'last:' .. owner, 'listens'))
if not tag then
  tag = math.max(tonumber(served or '0'), tonumber(last or '0')) + 1
  redis.call('HSET', BOOKS, 'last:' .. owner, string.format('%.0f', tag))
end
redis.call('ZADD', QUEUE, tag, job)
redis.call('ZADD', LANE, tag, job)
redis.call('ZADD', LANES, 'LT', tag, lane)
redis.call('HINCRBY', BOOKS, 'waiting:' .. owner, 1)
if listens then
  redis.call('ZADD', BELL, 0, 'rung')
  redis.call('PEXPIRE', BELL, KEPT_MS)
end
for _, key in ipairs({LANE, LANES, BOOKS}) do
  redis.call('PEXPIRE', key, KEPT_MS)
end
return 1
