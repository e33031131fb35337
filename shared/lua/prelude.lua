-- In front of every script (see shared/scripts.py). All scripts take the same five keys of one {id}.
local META, LOG, SNAPSHOT, LEASE, PRESENCE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

-- The server's clock, in ms: the only clock that counts.
local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function int(number)
  return string.format('%.0f', number)
end

local function field(name)
  return redis.call('HGET', META, name) or ''
end

local function terminal(status)
  return next(ALLOWED[status]) == nil
end

-- The log's last entry: its id, type and data; '' where the log is empty.
local function last_entry()
  local entry = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
  if not entry then
    return '', '', ''
  end
  local values = {}
  for i = 1, #entry[2], 2 do
    values[entry[2][i]] = entry[2][i + 1]
  end
  return entry[1], values['e'], values['d']
end

-- The epoch of a new opening: larger than all before it, and never used again.
local function next_epoch(now)
  return math.max((tonumber(field('epoch')) or 0) + 1, now)
end

-- What this nonce's first call of this operation answered, or nil.
local function remembered(operation, nonce)
  if field('nonce:' .. operation) == nonce then
    return field('answer:' .. operation)
  end
end

local function remember(operation, nonce, ...)
  local answer = table.concat({...}, ' ')
  redis.call('HSET', META, 'nonce:' .. operation, nonce, 'answer:' .. operation, answer)
  return answer
end

-- For how many seconds the server has been up, and which run of it this is (nil, '' without the right to ask).
local function server_run()
  local info = redis.pcall('INFO', 'server')
  if type(info) ~= 'string' then
    return nil, ''
  end
  return tonumber(string.match(info, 'uptime_in_seconds:(%d+)')), string.match(info, 'run_id:(%w+)') or ''
end

-- Whether the server started a moment ago and this stream was made before: it may have lost its last seconds, and
-- whoever wrote then (a worker, an API process) writes that again first: a claim would fence it, an end forestall
-- the end that was lost. Reconnecting takes up to a second, repeating a cancel waits two for the workers, and a
-- second connection may be needed: five cover that. (Where rights do not allow INFO nobody waits.)
-- So does a cancel that was announced (see write_announced), and a record that its creator had to write again: however
-- late that is, the worker that spoke comes right behind it.
-- A server that stood still or took no writes meanwhile was not there for them: whoever asks may say for how long
-- it has seen no such trouble (ms). For a cancel that counts only near a restart, where there may be something to
-- write again (within_s): a stop must not wait for as long as a bad network lasts.
local SETTLED_MS = 5000
local function settling(calm_ms, within_s)
  local restored_ms = tonumber(field('restored_ms')) or 0
  if field('cancelling') ~= '' or now_ms() < restored_ms + SETTLED_MS then
    return true
  end
  local up, run = server_run()
  -- Not by the ages alone: the server tells its own in whole seconds, which may be one too many.
  if up and up * 1000 <= SETTLED_MS and field('run') ~= run then
    return true
  end
  if not calm_ms or (within_s and up and up >= within_s) then
    return false
  end
  return calm_ms < SETTLED_MS and tonumber(field('created_ms')) < now_ms() - calm_ms
end

-- The stream belongs to this worker, under this epoch.
local function take(epoch, worker, lease_ms)
  redis.call('HSET', META, 'epoch', epoch, 'claimed_epoch', epoch, 'worker', worker, 'released', '')
  if tonumber(lease_ms) > 0 then
    redis.call('SET', LEASE, worker .. ':' .. epoch, 'PX', lease_ms)
  end
end

-- Begin the next attempt: its opening event, and what the record says of it. From `started` and `restart` the
-- text counts anew; `continued` goes on behind the log's last id. Out: the attempt.
local function open_attempt(opening, epoch, worker, lease_ms, last_id, now, counts)
  take(epoch, worker, lease_ms)
  local attempt = redis.call('HINCRBY', META, 'attempt', 1)
  redis.call('HINCRBY', META, 'tries', counts and 1 or 0)
  local id = epoch .. '-0'
  local data = '"attempt":' .. int(attempt) .. ',' .. string.sub(field('about'), 2)
  if opening == 'continued' then
    data = '"after":"' .. last_id .. '",' .. data
  else
    redis.call('DEL', SNAPSHOT)
    redis.call('HDEL', META, 'snapshot_id')
    redis.call('HSET', META, 'text_from', id)
  end
  redis.call('XADD', LOG, id, 'e', opening, 'd', '{' .. data, 'a', last_id)
  redis.call('HSET', META, 'status', 'running', 'started_ms', int(now))
  return attempt
end

-- Grow the snapshot by a chunk at a checked offset (0 begins it anew). Out: nil, or the length that is
-- there where the offset does not fit. A repeated growth is recognised by its length and its id.
local function grow(as_of, offset, chunk)
  local size = redis.call('STRLEN', SNAPSHOT)
  if offset == 0 then
    redis.call('SET', SNAPSHOT, chunk)
  elseif size == offset then
    redis.call('APPEND', SNAPSHOT, chunk)
  elseif size ~= offset + #chunk or field('snapshot_id') ~= as_of then
    return size
  end
  redis.call('HSET', META, 'snapshot_id', as_of)
end

-- What every end has in common: the status, no lease, no prompt, and one life time for all keys.
local function close(status, now, retention_ms, keep_prompt)
  redis.call('HSET', META, 'status', status, 'finished_ms', int(now), 'confirmed', '1')
  redis.call('DEL', LEASE, PRESENCE)
  if keep_prompt ~= '1' then
    redis.call('HDEL', META, 'request')
  end
  for _, key in ipairs({META, LOG, SNAPSHOT}) do
    redis.call('PEXPIRE', key, retention_ms)
  end
end

-- End the stream from outside, under this epoch. Out: the cancel's answer.
local function write_cancel(nonce, epoch, retention_ms, keep_prompt, data)
  local id = epoch .. '-0'
  local last_id = last_entry()
  redis.call('XADD', LOG, 'NOMKSTREAM', id, 'e', 'cancelled', 'd', data, 'a', last_id)
  redis.call('HSET', META, 'epoch', epoch, 'result', data)
  redis.call('HDEL', META, 'cancelling')
  close('cancelled', now_ms(), retention_ms, keep_prompt)
  return remember('cancel', nonce, 'cancelled', id)
end

-- A cancel that the server lost, or that nobody answered, is announced before it is written again: the worker first
-- writes again what was said before, and meanwhile nobody claims or ends the stream. An API process that died in
-- between never writes it, so the announcement says all of it, and whoever asks for the stream ten seconds later does.
local function write_announced()
  local at, nonce, epoch, retention_ms, keep_prompt, data =
    string.match(field('cancelling'), '^(%d+) (%S+) (%d+) (%d+) (%d) (.*)$')
  if at and now_ms() - tonumber(at) >= 10000 and not terminal(field('status')) then
    write_cancel(nonce, int(math.max(tonumber(epoch), next_epoch(0))), retention_ms, keep_prompt, data)
  end
end
