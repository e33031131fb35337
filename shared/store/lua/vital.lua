-- One command that must pass at full memory: a sign of life, which takes the place of the one before it.
-- KEYS: the command's keys
-- ARGV: the command
return redis.call(unpack(ARGV))
