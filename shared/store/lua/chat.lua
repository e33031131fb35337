-- Give a chat its earlier stream back, if no later one was given to it. On the queue's server.
-- KEYS: the chat (string: its stream's id)
-- ARGV: id of the stream to take back, id of the earlier one ('' for none), life in ms
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
