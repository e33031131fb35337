-- The record, the snapshot and all entries behind it, in one step: between two reads the log could be trimmed or end.
-- Out: {the record's fields and values without the request and the input, snapshot, entries behind it};
--      an empty record where the stream does not exist
local as_of = field('snapshot_id')
local from = as_of == '' and field('text_from') or '(' .. as_of
if from == '' then
  return {{}, '', {}}
end
local record = {}
local raw = redis.call('HGETALL', META)
for i = 1, #raw, 2 do
  if raw[i] ~= 'request' and raw[i] ~= 'input' then
    record[#record + 1] = raw[i]
    record[#record + 1] = raw[i + 1]
  end
end
return {record, redis.call('GET', SNAPSHOT) or '', redis.call('XRANGE', LOG, from, '+')}
