-- Note that text of a stream is deleted now, and that the rest of it will expire. On the queue's server.
-- KEYS: erasures (sorted set: times at which a rewrite of the log server's file is due, in ms; member = score)
-- ARGV: interval between two rewrites in ms, margin in ms, life of the rest in ms
-- Out:  for how many ms this note covers all other deletions, too
local interval, margin, left = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local function due(ms)
  return (math.floor((ms + margin) / interval) + 1) * interval
end
local first = due(now)
-- A stream whose text is deleted at the end of the interval expires that much later.
for _, ms in ipairs({first, due(now + left), due(first + left)}) do
  redis.call('ZADD', KEYS[1], ms, string.format('%.0f', ms))
end
return first - margin - now
