-- Remove streams that have ended, or are gone, from the unfinished, and count the bytes that are kept of them for their
-- owners. On the queue's server, on keys without a hash tag. Repeating it changes nothing.
-- KEYS: the unfinished (sorted set), then for each stream its owner's requests and kept bytes (see admit.lua)
-- ARGV: retention in ms; then for each stream: id, bytes that are kept of it
local life_ms = tonumber(ARGV[1])
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local hour = math.floor((now + life_ms) / 3600000)
for i = 2, #ARGV, 2 do
  local id, size = ARGV[i], tonumber(ARGV[i + 1])
  local REQUESTS, KEPT = KEYS[i], KEYS[i + 1]
  if redis.call('ZREM', KEYS[1], id) == 1 then
    local request = redis.call('HGET', REQUESTS, id)
    if request then
      redis.call('HDEL', REQUESTS, id)
      redis.call('HINCRBY', REQUESTS, 'sum', size - tonumber(request))
      if size > 0 then
        redis.call('HINCRBY', KEPT, string.format('%.0f', hour), size)
        redis.call('PEXPIRE', KEPT, string.format('%.0f', life_ms + 7200000))
      end
    end
  end
end
return 'ok'
