-- Move one message from unacked back to its list, unless something happened to it since it was looked at.
-- KEYS  unacked, unacked_index, the list, loss counter, held (of the worker that gives it back; '' for the reaper)
-- ARGV  1 delivery tag   2 the message as it goes back; '' when there is none to go back
--       3 the score that was seen: a number, 'none' (no score), or 'held' (the same as in held)
--       4 expiry of the loss counter, seconds; 0 counts no loss
-- Gives 1 when the message went back.
local unacked, index, list, loss, held = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local tag, raw, seen = ARGV[1], ARGV[2], ARGV[3]
local score = redis.call('ZSCORE', index, tag)

-- Where something else has the list's name, the message stays: to fail half-way would lose it.
if raw ~= '' and type(redis.pcall('LLEN', list)) == 'table' then
    return 0
end

local expected = seen
if seen == 'held' then
    expected = redis.call('ZSCORE', held, tag) or 'nobody'
    redis.call('ZREM', held, tag)
end
-- Microseconds apart are two different holders: compared as numbers, since their spelling may differ.
if (tonumber(score or nil) or 'none') ~= (tonumber(expected) or expected) then
    return 0
end

redis.call('ZREM', index, tag)
if redis.call('HDEL', unacked, tag) == 0 or raw == '' then
    return 0
end
redis.call('RPUSH', list, raw)
if tonumber(ARGV[4]) > 0 then
    redis.call('INCR', loss)
    redis.call('EXPIRE', loss, tonumber(ARGV[4]))
end
return 1
