-- How many messages wait in lists, and since when. Writes nothing.
-- KEYS  the lists
-- Gives for each: its length, and the Unix time at which its oldest message was sent, or '' when it doesn't say.
local answer = {}
for at, key in ipairs(KEYS) do
    local raw = redis.call('LINDEX', key, -1) or ''
    local _, last = string.find(raw, '"lowtide-at":', 1, true)
    local sent = last and string.match(raw, '^%s*(%d+%.?%d*)', last + 1)
    answer[at] = { redis.call('LLEN', key), sent or '' }
end
return answer
