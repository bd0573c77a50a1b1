-- A process ends in order, or is silent. One that still holds something stays registered, until a sweeper has given that
-- back.
-- KEYS  the register, the hash of statuses, what it holds, those who are suspect
-- ARGV  1 who   2 its last heartbeat, as it was seen, or nothing when it ends itself
-- Gives 1, or 0 when it stays: it has also been heard of since.
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or nil) then
    return 0
end
if redis.call('EXISTS', KEYS[3]) == 0 then
    redis.call('ZREM', KEYS[1], ARGV[1])
    redis.call('HDEL', KEYS[2], ARGV[1])
    redis.call('ZREM', KEYS[4], ARGV[1])
    return 1
end
return 0
