-- Set a message aside that was taken and is not due yet, as take.lua does with those that it can tell by itself.
-- KEYS  unacked, unacked_index, held, scheduled    ARGV  1 delivery tag   2 Unix time from which it may run
-- Gives 0 when it is due and stays held, else 1.
local time = redis.call('TIME')
if tonumber(ARGV[2]) <= tonumber(time[1]) + tonumber(time[2]) / 1e6 then
    return 0
end
local entry = redis.call('ZSCORE', KEYS[3], ARGV[1]) and redis.call('HGET', KEYS[1], ARGV[1])
-- The first write needs no memory, so that a full Redis lets the script go on.
redis.call('ZREM', KEYS[3], ARGV[1])
if entry then
    redis.call('ZADD', KEYS[4], ARGV[2], entry)
    redis.call('HDEL', KEYS[1], ARGV[1])
    redis.call('ZREM', KEYS[2], ARGV[1])
end
return 1
