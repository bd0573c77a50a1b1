-- A process ends in order. A worker that still holds something stays registered, until a sweeper has given that back.
-- KEYS  the register, the hash of statuses, what it holds, those who are suspect    ARGV  1 who
if redis.call('EXISTS', KEYS[3]) == 0 then
    redis.call('ZREM', KEYS[1], ARGV[1])
    redis.call('HDEL', KEYS[2], ARGV[1])
    redis.call('ZREM', KEYS[4], ARGV[1])
end
