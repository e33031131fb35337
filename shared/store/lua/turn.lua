-- A turn at a provider: asked for again and again until it is given, then kept alive in the same way. On the queue's
-- server.
-- KEYS: line (sorted set: waiting member by its order of arrival), seen (sorted set: member by the ms until which it
--       counts as waiting), running (sorted set: member by the ms until which it counts as running), used (hash:
--       second -> "<requests> <tokens>"), arrivals (string: a counter)
-- ARGV: member, life of a sign of life in ms, most at once, requests a minute, tokens a minute (0: no limit, each),
--       estimated tokens of this request
-- Out:  {'go', second} (second 0: the member has its turn already) | {'wait', place in the queue, the limit's name}
local member, life_ms = ARGV[1], tonumber(ARGV[2])
local most, per_minute, tokens, estimated = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local WAITING, SEEN, RUNNING, USED, ARRIVALS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local KEPT_MS = 3600000
local t = redis.call('TIME')
local second = tonumber(t[1])
local now = second * 1000 + math.floor(tonumber(t[2]) / 1000)

-- A sign of life from before the clock went back stays valid for one more life, in which a living member gives another.
for _, signs in ipairs({SEEN, RUNNING}) do
  for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', signs, '(' .. now + life_ms, '+inf')) do
    redis.call('ZADD', signs, now + life_ms, ahead)
  end
end
redis.call('ZREMRANGEBYSCORE', RUNNING, '-inf', now)
if redis.call('ZSCORE', RUNNING, member) then
  redis.call('ZADD', RUNNING, now + life_ms, member)
  return {'go', 0}
end
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', SEEN, '-inf', now)) do
  redis.call('ZREM', SEEN, dead)
  redis.call('ZREM', WAITING, dead)
end
if not redis.call('ZSCORE', WAITING, member) then
  redis.call('ZADD', WAITING, redis.call('INCR', ARRIVALS), member)
end
redis.call('ZADD', SEEN, now + life_ms, member)
for _, key in ipairs({WAITING, SEEN, RUNNING, ARRIVALS}) do
  redis.call('PEXPIRE', key, KEPT_MS)
end

-- The members in front may be slower to ask: their turns are left to them.
local ahead = redis.call('ZRANK', WAITING, member)
if most > 0 and ahead >= most - redis.call('ZCARD', RUNNING) then
  return {'wait', ahead + 1, 'max_concurrent'}
end
if per_minute > 0 or tokens > 0 then
  local requests_used, tokens_used = 0, 0
  local all = redis.call('HGETALL', USED)
  for i = 1, #all, 2 do
    -- A second that is ahead was used before the clock went back; its real time is unknown.
    if tonumber(all[i]) <= second - 60 or tonumber(all[i]) > second then
      redis.call('HDEL', USED, all[i])
    else
      local r, n = string.match(all[i + 1], '^(%d+) (%-?%d+)$')
      requests_used, tokens_used = requests_used + tonumber(r), tokens_used + tonumber(n)
    end
  end
  if per_minute > 0 and requests_used + ahead >= per_minute then
    return {'wait', ahead + 1, 'requests_per_minute'}
  end
  -- A request that is larger than the whole minute's tokens may go when nothing else was used.
  if tokens > 0 and tokens_used + estimated * (ahead + 1) > tokens and (tokens_used > 0 or ahead > 0) then
    return {'wait', ahead + 1, 'tokens_per_minute'}
  end
  local r, n = string.match(redis.call('HGET', USED, second) or '0 0', '^(%d+) (%-?%d+)$')
  redis.call('HSET', USED, second, string.format('%.0f %.0f', r + 1, n + estimated))
  redis.call('PEXPIRE', USED, 61000)
end
redis.call('ZREM', WAITING, member)
redis.call('ZREM', SEEN, member)
redis.call('ZADD', RUNNING, now + life_ms, member)
return {'go', second}
