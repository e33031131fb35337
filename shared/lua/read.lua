-- The snapshot and all behind it, in one step: between two reads a trim could slip in.
-- Out: {status, attempt, text_from, id as of which the snapshot is ('' for none), snapshot, entries}
local as_of = field('snapshot_id')
local from = as_of == '' and field('text_from') or '(' .. as_of
if from == '' then
  return {'', '', '', '', '', {}}
end
return {
  field('status'), field('attempt'), field('text_from'), as_of,
  redis.call('GET', SNAPSHOT) or '',
  redis.call('XRANGE', LOG, from, '+'),
}
