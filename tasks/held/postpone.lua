-- Set a message aside that was taken and is not due yet, as take.lua does with those that it can tell by itself. Begins
-- with held.lua.
-- KEYS  held, holders, scheduled    ARGV  1 the incarnation   2 delivery tag   3 Unix time from which it may run
-- Gives 0 when it is due and stays held, else 1.
local time = redis.call('TIME')
if tonumber(ARGV[3]) <= tonumber(time[1]) + tonumber(time[2]) / 1e6 then
    return 0
end
local entry = redis.call('HGET', KEYS[1], ARGV[2])
-- The first write needs no memory, so that a full Redis lets the script go on.
redis.call('HDEL', KEYS[1], '')
if entry then
    local list, task, raw = opened(entry)
    redis.call('ZADD', KEYS[3], ARGV[3], list .. '\n' .. raw)
    forget(KEYS[1], KEYS[2], ARGV[1], ARGV[2], task)
end
return 1
