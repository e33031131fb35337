-- Note what one attempt used. Not fenced: what was paid was paid.
-- ARGV: attempt, usage as JSON
if redis.call('EXISTS', META) == 1 then
  redis.call('HSET', META, 'usage:' .. ARGV[1], ARGV[2])
end
return 'ok'
