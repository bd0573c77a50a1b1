-- Claim, or record, for many messages at once.
-- KEYS  register of bridges, then lt2:end:<m>, one per message
-- ARGV  1 "claim", "done" or "keep"   2 our claim   3 expiry, seconds
-- Claim: gives for each message 0 when it is ours now (new, or renewed), 1 another's, 2 done.
-- Done: marks each, whatever was there: what it ends with has been published.
-- Keep: what is done stays so for that long.
-- The first write needs no memory, so that a full Redis lets the script go on: what is settled makes it emptier.
redis.call('ZREM', KEYS[1], '')
local answers = {}
for index = 1, #KEYS - 1 do
    local key = KEYS[index + 1]
    if ARGV[1] == 'done' then
        redis.call('SET', key, 'done', 'EX', ARGV[3])
    elseif ARGV[1] == 'keep' then
        if redis.call('GET', key) == 'done' then
            redis.call('EXPIRE', key, ARGV[3])
        end
    else
        local value = redis.call('GET', key)
        if not value or value == ARGV[2] then
            redis.call('SET', key, ARGV[2], 'EX', ARGV[3])
            answers[index] = 0
        else
            answers[index] = value == 'done' and 2 or 1
        end
    end
end
return answers
