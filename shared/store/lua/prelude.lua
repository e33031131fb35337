-- In front of every script of the log's side (see shared/redis/scripts.py). Their first five keys are a stream's.
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

-- The log's last entry: its id and type; '' where the log is empty. (The type is every entry's first field.)
local function last_entry()
  local entry = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
  if not entry then
    return '', ''
  end
  return entry[1], entry[2][2]
end

-- The epoch of a new opening: larger than all earlier epochs, and never used again.
local function next_epoch(now)
  return math.max((tonumber(field('epoch')) or 0) + 1, now)
end

-- The reply to the first call of this operation with this nonce, or nil.
local function remembered(operation, nonce)
  if field('nonce:' .. operation) == nonce then
    return field('answer:' .. operation)
  end
end

local function remember(operation, nonce, ...)
  local reply = table.concat({...}, ' ')
  redis.call('HSET', META, 'nonce:' .. operation, nonce, 'answer:' .. operation, reply)
  return reply
end

-- Give the stream to this worker, under this epoch.
local function take(epoch, worker, lease_ms)
  redis.call('HSET', META, 'epoch', epoch, 'claimed_epoch', epoch, 'worker', worker, 'released', '')
  redis.call('SET', LEASE, worker .. ':' .. epoch, 'PX', lease_ms)
end

-- Begin the next attempt: its opening event, and its fields in the record. After `started` and `restart` the text
-- begins again from nothing; `continued` goes on behind the log's last id. The entry carries the claim's nonce, by which
-- a worker recognises its own opening, even if another server gave the same epoch to another worker. The field `index`
-- is the number of entries before the opening, trimmed ones too: dialects number their events by it. Out: the attempt.
local function open_attempt(opening, nonce, epoch, last_id, now, counts)
  local index = int((tonumber(field('index')) or 0) + tonumber(string.match(last_id, '%-(%d+)$') or 0) + 1)
  local attempt = redis.call('HINCRBY', META, 'attempt', 1)
  redis.call('HINCRBY', META, 'tries', counts and 1 or 0)
  local id = epoch .. '-0'
  local data = '"attempt":' .. int(attempt) .. ',' .. string.sub(field('about'), 2)
  if opening == 'continued' then
    data = '"after":"' .. last_id .. '",' .. data
  else
    redis.call('DEL', SNAPSHOT)
    redis.call('HDEL', META, 'snapshot_id')
    redis.call('HSET', META, 'text_from', id, 'text_index', index)
  end
  redis.call('HSET', META, 'index', index)
  redis.call('XADD', LOG, id, 'e', opening, 'd', '{' .. data, 'a', last_id, 'c', nonce)
  redis.call('HSET', META, 'status', 'running', 'started_ms', int(now))
  return attempt
end

-- Append a chunk to the snapshot at a checked offset (0 begins it again). Out: nil, or the present length if the offset
-- does not fit. A repeated call is recognised by its length and its id.
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

-- The part that all ends have in common: set the status, delete the lease, the prompt and the fields that only an
-- attempt needs, and give all keys one life time. The record is written again, because a hash that held a long value
-- keeps its large encoding after the value is deleted: a tiny stream's record takes 0.9 kB this way, and 1.9 otherwise.
local UNUSED = {'nonce:claim', 'answer:claim', 'nonce:release', 'answer:release', 'claimed_epoch', 'released'}
local function close(status, now, retention_ms, keep_prompt)
  redis.call('HSET', META, 'status', status, 'finished_ms', int(now))
  local attempt = field('attempt')
  if attempt ~= '0' then
    redis.call('HSETNX', META, 'end:' .. attempt, status) -- (a failure has put its code there already)
  end
  redis.call('DEL', LEASE, PRESENCE)
  redis.call('HDEL', META, unpack(UNUSED))
  if keep_prompt ~= '1' then
    redis.call('HDEL', META, 'request')
  end
  local record = redis.call('HGETALL', META)
  redis.call('DEL', META)
  redis.call('HSET', META, unpack(record))
  for _, key in ipairs({META, LOG, SNAPSHOT}) do
    redis.call('PEXPIRE', key, retention_ms)
  end
end
