-- Hand back messages of one's own, the last of the tags to be served first. Begins with held.lua.
-- KEYS  held, holders    ARGV  1 the incarnation   2 what is before a Celery id in the key of its losses
--       3 expiry of that, seconds   then the delivery tags
-- Gives how many went back.
local moved = 0
for at = 4, #ARGV do
    if put_back(KEYS[1], KEYS[2], ARGV[1], ARGV[at], ARGV[2], ARGV[3], false) then
        moved = moved + 1
    end
end
return moved
