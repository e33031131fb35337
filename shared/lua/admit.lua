-- Whether a key may create one more stream. On the queue's server, on keys without a hash tag.
-- KEYS: the key's rate (string), the key's streams (sorted set: id by ms), arq's queue (sorted set), the unfinished
--       (sorted set), which gets the stream: from here on the sweep looks after it
-- ARGV: stream id, creations per minute, streams at once, jobs that may wait (0: no limit, for each of the three),
--       life of the sorted set in ms. What is refused takes nothing.
-- Out:  {'ok', now in ms} | {'queue_full', 0} | {'rate_limited', ms to wait} | {'too_many_streams', 0}
local per_minute, at_once, waiting = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)

if waiting > 0 and redis.call('ZCARD', KEYS[3]) >= waiting then
  return {'queue_full', 0}
end
if at_once > 0 and not redis.call('ZSCORE', KEYS[2], ARGV[1]) and redis.call('ZCARD', KEYS[2]) >= at_once then
  return {'too_many_streams', 0}
end
if per_minute > 0 then
  -- The string holds the moment at which all that was taken is given back; it runs a minute ahead at most.
  local free_at = tonumber(redis.call('GET', KEYS[1]) or '0')
  if free_at < now or free_at > now + 60000 then
    free_at = now -- farther ahead: the clock went back since, and nothing is known of this minute
  end
  free_at = free_at + 60000 / per_minute
  if free_at - now > 60000 then
    return {'rate_limited', math.ceil(free_at - now - 60000)}
  end
  redis.call('SET', KEYS[1], string.format('%.3f', free_at), 'PX', 60000)
end
if at_once > 0 then
  redis.call('ZADD', KEYS[2], 'NX', now, ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
redis.call('ZADD', KEYS[4], 'NX', now, ARGV[1])
return {'ok', now}
