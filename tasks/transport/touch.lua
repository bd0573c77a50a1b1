-- Say that the holder of these tags lives. What the reaper took away stays away.
-- KEYS  unacked_index, held, then lt:run of each task
-- ARGV  1 expiry of lt:run, seconds   2 expiry of held, seconds   then the delivery tags
-- The first write needs no memory, so that a full Redis lets the script go on: else it would reap the living.
redis.call('ZREM', KEYS[1], '')
local time = redis.call('TIME')
local now = string.format('%d.%06d', tonumber(time[1]), tonumber(time[2]))
local alive = 0
for at = 3, #ARGV do
    if redis.call('ZSCORE', KEYS[1], ARGV[at]) then
        alive = alive + 1
        redis.call('ZADD', KEYS[1], now, ARGV[at])
        redis.call('ZADD', KEYS[2], 'XX', now, ARGV[at])
    end
end
redis.call('EXPIRE', KEYS[2], tonumber(ARGV[2]))
for at = 3, #KEYS do
    redis.call('SET', KEYS[at], 1, 'EX', tonumber(ARGV[1]))
end
return alive
