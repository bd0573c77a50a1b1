-- Give back, as lost, what could not go back before and can now: some at random, so that what still can't keeps none of
-- the others. Begins with held.lua.
-- KEYS  stuck, holders    ARGV  1 messages at most   2 bytes after which no further one is looked at   3 what is before a
--       Celery id in the key of its losses   4 expiry of that, seconds
-- Gives how many went back.
local moved, bytes = 0, 0
for _, tag in ipairs(redis.call('HRANDFIELD', KEYS[1], ARGV[1])) do
    if bytes >= tonumber(ARGV[2]) then
        break
    end
    local size, entry = put_back(KEYS[1], KEYS[2], '', tag, ARGV[3], ARGV[4], true)
    if size then
        moved = moved + 1
    end
    bytes = bytes + (size or #entry)
end
return moved
