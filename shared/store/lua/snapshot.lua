-- Append to the snapshot, fenced like an append to the log. Repeating it changes nothing.
-- ARGV: epoch, id of its last event, offset, chunk
-- Out:  ok | mismatch <length> | fenced | gone
local epoch, as_of, offset, chunk = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
if redis.call('EXISTS', META) == 0 then
  return 'gone'
end
if field('epoch') ~= epoch or terminal(field('status')) then
  return 'fenced'
end
local size = grow(as_of, offset, chunk)
if size then
  return 'mismatch ' .. int(size)
end
return 'ok'
