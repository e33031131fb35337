-- Somebody watches the stream, for so long.
-- ARGV: ms
redis.call('SET', PRESENCE, '1', 'PX', ARGV[1])
return 'ok'
