-- Note that the stream has a viewer.
-- ARGV: life time of the note in ms
redis.call('SET', PRESENCE, '1', 'PX', ARGV[1])
return 'ok'
