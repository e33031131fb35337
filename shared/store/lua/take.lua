-- Take jobs out of the queue: one of each owner in turn, and for no owner more than its share of the worker's places
-- (see shared/store/queue.py). On the queue's server, on keys without a hash tag; those of lanes and jobs are made from
-- ARGV.
-- KEYS: arq's queue, the lanes (sorted set), the books (hash)
-- ARGV: prefix of a lane's key, prefix of a job's key; the job that woke the worker, and its place ('' for none);
--       the worker's free places, and how many more streams it may hold; shares: 1 where keys share the places, 1
--       where providers do, most places of a key (0: its share); then for each name (`key:…`, `provider:…`, `lane:…`) of
--       the worker's streams: how many hold a place, how many there are in all
-- Out:  {number of jobs that still wait, then for each job that was taken: job id, place, payload or nil}
local QUEUE, LANES, BOOKS = KEYS[1], KEYS[2], KEYS[3]
local lane_head, job_head, woken, woken_at = unpack(ARGV, 1, 4)
local free, more = tonumber(ARGV[5]), tonumber(ARGV[6])
local shares = {key = ARGV[7] == '1', provider = ARGV[8] == '1'}
local most_of_key = tonumber(ARGV[9])
local FOREIGN = 1000000000000  -- a place from here on is a time in ms: another program enqueued the job with arq
local FIRST = 0  -- the place of a stream that has begun already
local BATCH = 100

local running, held = {}, {}
for i = 10, #ARGV, 3 do
  running[ARGV[i]], held[ARGV[i]] = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
end

local function lane_of(job)
  return string.match(job, '^[^:]*:%d+:([^:]*:[^:]*)$') or ':'
end

-- Add a job that only the queue has to its lane, behind the last one of its owner.
local function adopt(job)
  local lane = lane_of(job)
  local known = redis.call('ZSCORE', lane_head .. lane, job)
  if known then
    redis.call('ZADD', LANES, 'LT', known, lane)
    return
  end
  local owner = string.match(lane, ':(.*)$')
  local served, last = unpack(redis.call('HMGET', BOOKS, 'served', 'last:' .. owner))
  local tag = math.max(tonumber(served or '0'), tonumber(last or '0')) + 1
  redis.call('HSET', BOOKS, 'last:' .. owner, string.format('%.0f', tag))
  redis.call('HINCRBY', BOOKS, 'waiting:' .. owner, 1)
  redis.call('ZADD', QUEUE, tag, job)
  redis.call('ZADD', lane_head .. lane, tag, job)
  redis.call('ZADD', LANES, 'LT', tag, lane)
end

-- A key or provider with a share may have one more place while it has fewer than are free; for streams that have begun
-- already, three times as many (`factor`).
local function fits(kind, name, factor)
  local key = kind .. ':' .. name
  if name == '' or not shares[kind] then
    return true
  end
  local places = running[key] or 0
  local room = factor * free
  if kind == 'key' and most_of_key > 0 then
    room = most_of_key
  end
  return places < room and (held[key] or 0) < factor * more
end

-- A key may have one more of a provider's places while it has fewer than the free places minus the provider's places. A
-- key that filled all places of a provider would leave none there for other keys.
local function fits_lane(lane, provider, owner, factor)
  if provider == '' or owner == '' or most_of_key > 0 or not (shares.key and shares.provider) then
    return true
  end
  local mine, all = 'lane:' .. lane, 'provider:' .. provider
  local room, rest = free - (running[all] or 0), more - (held[all] or 0)
  return (running[mine] or 0) < factor * room and (held[mine] or 0) < factor * rest
end

local function count(kind, name)
  local key = kind .. ':' .. name
  running[key] = (running[key] or 0) + 1
  held[key] = (held[key] or 0) + 1
end

if woken ~= '' then
  redis.call('ZADD', QUEUE, 'NX', woken_at, woken)
  adopt(woken)
end
for _, job in ipairs(redis.call('ZRANGE', QUEUE, FOREIGN, '+inf', 'BYSCORE', 'LIMIT', 0, BATCH)) do
  adopt(job)
end

local reply = {0}
local passed = 0
local served = tonumber(redis.call('HGET', BOOKS, 'served') or '0')
while free > 0 and more > 0 do
  local lane, at = unpack(redis.call('ZRANGE', LANES, passed, passed, 'WITHSCORES'))
  if not lane then
    local strays = passed == 0 and redis.call('ZRANGE', QUEUE, 0, BATCH - 1) or {}
    if #strays == 0 then
      break
    end
    for _, job in ipairs(strays) do
      adopt(job)
    end
    lane, at = unpack(redis.call('ZRANGE', LANES, 0, 0, 'WITHSCORES'))
  end
  local provider, owner = string.match(lane, '^([^:]*):(.*)$')
  local factor = tonumber(at) == FIRST and 3 or 1
  local may = fits('key', owner, factor) and fits('provider', provider, factor)
  if not (may and fits_lane(lane, provider, owner, factor)) then
    passed = passed + 1
  else
    local LANE = lane_head .. lane
    local first = redis.call('ZRANGE', LANE, 0, 1, 'WITHSCORES')
    local job, place = first[1], first[2]
    if first[4] then
      redis.call('ZADD', LANES, first[4], lane)
    else
      redis.call('ZREM', LANES, lane)
    end
    if job then
      redis.call('ZREM', LANE, job)
      redis.call('HINCRBY', BOOKS, 'waiting:' .. owner, -1)
      -- A job that is not in the queue was taken by a program that uses no lanes.
      if redis.call('ZREM', QUEUE, job) == 1 then
        local payload = redis.call('GET', job_head .. job)
        redis.call('DEL', job_head .. job)
        served = math.max(served, tonumber(place))
        reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = job, place, payload
        free, more = free - 1, more - 1
        count('key', owner)
        count('provider', provider)
        count('lane', lane)
      end
    end
  end
end

reply[1] = redis.call('ZCARD', QUEUE)
if reply[1] == 0 then
  redis.call('DEL', LANES, BOOKS)
else
  redis.call('HSET', BOOKS, 'served', string.format('%.0f', served))
  if free > 0 and more > 0 then
    redis.call('HSET', BOOKS, 'listens', 1)
  else
    redis.call('HDEL', BOOKS, 'listens')
  end
end
return reply
