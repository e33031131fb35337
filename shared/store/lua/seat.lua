-- Seats for viewers of one stream, as one API process asks for them. On the queue's server.
-- KEYS: the stream's seats (hash: process -> "<seats> <until, ms>")
-- ARGV: process, seats wanted in all, seats needed in all, most seats of the stream, life in ms
-- Out:  the seats that this process has now: as many as wanted or fewer; 0 if even the needed ones are too many
local process, wanted, needed, most, life_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)

local others = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local seats, till = string.match(all[i + 1], '^(%d+) (%d+)$')
  if all[i] ~= process then
    if tonumber(till) > now + life_ms then
      -- The clock went back: the entry stays valid for one more life, in which its process renews it.
      till = now + life_ms
      redis.call('HSET', KEYS[1], all[i], string.format('%s %.0f', seats, till))
    end
    if tonumber(till) > now then
      others = others + tonumber(seats)
    else
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
local given = math.min(wanted, most - others)
if given < needed then
  return 0
end
redis.call('HSET', KEYS[1], process, string.format('%.0f %.0f', given, now + life_ms))
redis.call('PEXPIRE', KEYS[1], life_ms)
return given
