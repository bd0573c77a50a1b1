-- Give an incarnation up that is silent (score 0): from now on it takes and beats in vain. Give back a part of what it
-- held, as lost; with the last of it, remove it from the register. What can't go back is put aside, so that nobody stays
-- registered for its sake. Begins with held.lua.
-- KEYS  register, statuses, held, holders, stuck, suspects
-- ARGV  1 the incarnation   2 its last heartbeat, as it was seen   3 messages at most   4 bytes after which no further one
--       goes back   5 what is before a Celery id in the key of its losses   6 expiry of that, seconds
-- Gives how many went back; 1 when there is more to do, else 0: it is removed, or has been heard of since; and how
-- many were put aside.
local beat = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or nil)
if not beat or beat ~= 0 and beat ~= tonumber(ARGV[2]) then
    return { 0, 0, 0 }
end
-- The first write needs no memory, so that a full Redis lets the script go on.
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('ZADD', KEYS[1], 0, ARGV[1])
local moved, stuck, bytes = 0, 0, 0
local tags = redis.call('HKEYS', KEYS[3])
for _, tag in ipairs(tags) do
    if moved + stuck >= tonumber(ARGV[3]) or bytes >= tonumber(ARGV[4]) then
        return { moved, 1, stuck }
    end
    local size, entry = put_back(KEYS[3], KEYS[4], ARGV[1], tag, ARGV[5], ARGV[6], true)
    if size then
        moved, bytes = moved + 1, bytes + size
    else
        redis.call('HSET', KEYS[5], ARGV[1] .. ':' .. tag, entry)
        local _, task = opened(entry)
        forget(KEYS[3], KEYS[4], ARGV[1], tag, task or '')
        stuck, bytes = stuck + 1, bytes + #entry
    end
end
if redis.call('EXISTS', KEYS[3]) == 0 then
    redis.call('ZREM', KEYS[1], ARGV[1])
    redis.call('HDEL', KEYS[2], ARGV[1])
end
return { moved, 0, stuck }
