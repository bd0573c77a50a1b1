-- Store a result and tell who waits for it.
-- KEYS  1 Celery's result key   2 if it is news that content is gone: the key of that
-- ARGV  1 the result   2 its expiry, seconds; 0: never
-- News changes nothing if there is a result, or the content: its sender has sent it again meanwhile.
if KEYS[2] and redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then
    return
end
-- The first write needs no memory, so that a full Redis lets the script go on: the acknowledgement that follows makes
-- it emptier by the whole task.
redis.call('DEL', KEYS[1])
if tonumber(ARGV[2]) > 0 then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
else
    redis.call('SET', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', KEYS[1], ARGV[1])
-- Who sends many listens to one channel for all of them: a subscription to a pattern is a right of its own.
local owner = string.match(KEYS[1], '^(.*celery%-task%-meta%-%x+)%.%x+$')
if owner then
    redis.call('PUBLISH', owner, KEYS[1] .. '\n' .. ARGV[1])
end
