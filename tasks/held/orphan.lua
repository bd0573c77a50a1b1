-- A worker learns that it is not registered, and still holds something: the register was lost, and not what is held. It
-- is given up (score 0), so that a sweeper finds it.
-- KEYS  the register, what it holds    ARGV  1 who
redis.call('ZREM', KEYS[1], '') -- a first write that needs no memory
if redis.call('EXISTS', KEYS[2]) == 1 then
    redis.call('ZADD', KEYS[1], 'NX', 0, ARGV[1])
end
