-- Note the usage and cost of one attempt. Not fenced: a lost attempt was paid, too.
-- ARGV: attempt, usage as JSON, cost as JSON
if redis.call('EXISTS', META) == 1 then
  redis.call('HSET', META, 'usage:' .. ARGV[1], ARGV[2], 'cost:' .. ARGV[1], ARGV[3])
end
return 'ok'
