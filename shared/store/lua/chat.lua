-- Take back what a chat was given, where it still stands there. On the queue's server.
-- KEYS: the chat's stream
-- ARGV: the stream's id that was given, the one that was there before ('' for none), life in ms
-- Out:  ok
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'ok'
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 'ok'
