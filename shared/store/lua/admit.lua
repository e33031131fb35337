-- Whether an API key may create one more stream. On the queue's server, on keys without a hash tag.
-- KEYS: the API key's rate (string) and streams (sorted set: id by ms); arq's queue (sorted set); the unfinished
--       (sorted set), which gets the stream, so that the sweep looks after it from here on; the queue's lanes (sorted
--       set) and books (hash), see enqueue.lua; the API key's requests (hash: id -> bytes, `sum`, `seen`), and the bytes
--       of its ended streams (hash: hour of expiry -> bytes)
-- ARGV: stream id, creations per minute, streams at once, jobs that may wait, bytes that a key may store (0: no limit,
--       for each of the four; -1: the server is full), life of the sorted set in ms, owner, 1 where keys share the
--       queue, bytes of this request, prefix of a lane's key
-- Out:  {'ok', now in ms} | {'redis_full', 0} | {'queue_full', jobs of the key, where these are the reason, else 0}
--       | {'rate_limited', ms to wait} | {'too_many_streams', 0} | {'too_many_bytes', bytes that are left}.
--       A refusal takes nothing.
local id, per_minute, at_once, waiting = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local most_bytes, life_ms, owner, shared, size = tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8] == '1', tonumber(ARGV[9])
local RATE, STREAMS, QUEUE, UNFINISHED, LANES, BOOKS, REQUESTS, KEPT = unpack(KEYS, 1, 8)
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)

-- Count the waiting jobs of this owner again.
local function recount()
  local count = 0
  for _, lane in ipairs(redis.call('ZRANGE', LANES, 0, -1)) do
    if string.match(lane, ':(.*)$') == owner then
      count = count + redis.call('ZCARD', ARGV[10] .. lane)
    end
  end
  redis.call('HSET', BOOKS, 'waiting:' .. owner, count)
  return count
end

-- The bytes of this owner: unfinished requests, and stored streams. If they would be too many, requests that have
-- ended and hours that have expired are removed first, at most once a second.
local function bytes_of_key()
  local sum, seen = unpack(redis.call('HMGET', REQUESTS, 'sum', 'seen'))
  sum = tonumber(sum or '0')
  seen = tonumber(seen or '0')
  if sum + size <= most_bytes or (seen <= now and now < seen + 1000) then -- (seen > now: the clock went back)
    return sum
  end
  sum = 0
  local requests = redis.call('HGETALL', REQUESTS)
  for i = 1, #requests, 2 do
    local name = requests[i]
    if name ~= 'sum' and name ~= 'seen' then
      if redis.call('ZSCORE', UNFINISHED, name) then
        sum = sum + tonumber(requests[i + 1])
      else
        redis.call('HDEL', REQUESTS, name)
      end
    end
  end
  local kept = redis.call('HGETALL', KEPT)
  for i = 1, #kept, 2 do
    if tonumber(kept[i]) * 3600000 < now then
      redis.call('HDEL', KEPT, kept[i])
    else
      sum = sum + tonumber(kept[i + 1])
    end
  end
  redis.call('HSET', REQUESTS, 'sum', string.format('%.0f', sum), 'seen', string.format('%.0f', now))
  redis.call('PEXPIRE', REQUESTS, life_ms)
  return sum
end

if most_bytes < 0 then
  return {'redis_full', 0}
end
if waiting > 0 then
  -- A stream that has begun already and waits for its next attempt (place 0) was admitted before: it does not count.
  local room = waiting - redis.call('ZCOUNT', QUEUE, '(0', '+inf')
  if room <= 0 then
    return {'queue_full', 0}
  end
  if shared and owner ~= '' then
    local mine = tonumber(redis.call('HGET', BOOKS, 'waiting:' .. owner) or '0')
    if mine >= room then
      mine = recount()
    end
    if mine >= room then
      return {'queue_full', mine}
    end
  end
end
if at_once > 0 and not redis.call('ZSCORE', STREAMS, id) and redis.call('ZCARD', STREAMS) >= at_once then
  return {'too_many_streams', 0}
end
local counts = most_bytes > 0 and owner ~= ''
if counts and redis.call('HEXISTS', REQUESTS, id) == 0 then
  local left = most_bytes - bytes_of_key()
  if size > left then
    return {'too_many_bytes', math.max(0, left)}
  end
end
if per_minute > 0 then
  -- The string holds the time at which the whole quota is free again: at most a minute ahead.
  local free_at = tonumber(redis.call('GET', RATE) or '0')
  if free_at < now or free_at > now + 60000 then
    free_at = now -- further ahead: the clock went back, and nothing is known about this minute
  end
  free_at = free_at + 60000 / per_minute
  if free_at - now > 60000 then
    return {'rate_limited', math.ceil(free_at - now - 60000)}
  end
  redis.call('SET', RATE, string.format('%.3f', free_at), 'PX', 60000)
end
if at_once > 0 then
  redis.call('ZADD', STREAMS, 'NX', now, id)
  redis.call('PEXPIRE', STREAMS, life_ms)
end
if counts and redis.call('HSETNX', REQUESTS, id, size) == 1 then
  redis.call('HINCRBY', REQUESTS, 'sum', size)
  redis.call('PEXPIRE', REQUESTS, life_ms)
end
redis.call('ZADD', UNFINISHED, 'NX', now, id)
return {'ok', now}
