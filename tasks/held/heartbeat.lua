-- Say that a process lives, and what it says of itself.
-- KEYS  the register, the hash of statuses, the protocol, those who are suspect
-- ARGV  1 who   2 its status, or nothing when it is as it was   3 1 when it may register, 0 when it must be registered
--       already   4 our protocol   5 1 when it is suspect, else 0
-- Gives the time, seconds, as text; 0 when it is not registered, and then changes nothing: it was given up (score 0), or
-- Redis lost its data; -1 when another protocol is spoken, and changes nothing either.
local spoken = redis.call('GET', KEYS[3])
if spoken and spoken ~= ARGV[4] then
    return -1
end
-- The first write needs no memory, so that a full Redis lets the script go on: else it would make the living look dead.
redis.call('ZREM', KEYS[4], ARGV[1])
local last = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
if ARGV[3] == '0' and last == 0 then
    return 0
end
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
-- Each is another than the last, also while Redis' clock stands still or was set back.
redis.call('ZADD', KEYS[1], string.format('%.6f', math.max(now, last + 1e-6)), ARGV[1])
if ARGV[5] == '1' then
    redis.call('ZADD', KEYS[4], string.format('%.6f', now), ARGV[1])
end
if ARGV[2] ~= '' then
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
if not spoken then
    redis.call('SET', KEYS[3], ARGV[4])
end
return string.format('%.6f', now)
