-- Which tasks of one owner are in messages. Writes nothing.
-- KEYS  1 a list of messages
-- ARGV  1 the owner, with the dot that follows it in its task ids   2 bytes after which no further message is read
--       then the places in the list
-- Gives the number of places read, then the task ids.
local key, owner, most = KEYS[1], ARGV[1], tonumber(ARGV[2])
local bytes, at, answer = 0, 3, { 0 }
while ARGV[at] and bytes < most do
    local raw = redis.call('LINDEX', key, ARGV[at])
    if raw then
        -- Not parsed: with its dot, an id of ours is nothing that base64 contents could hold.
        bytes = bytes + #raw
        local from = string.find(raw, owner, 1, true)
        answer[#answer + 1] = from and string.match(raw, '^%x+%.%x+', from) or nil
    end
    at = at + 1
end
answer[1] = at - 3
return answer
