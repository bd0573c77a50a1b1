-- B5 and B7 for many messages at once.
-- KEYS  lt:end:<m>, one per message        ARGV  1 "claim" or "done"   2 our claim   3 expiry, seconds
-- Claim: gives for each message 0 when it is ours now (new, or renewed), 1 another's, 2 done.
-- Done: marks each, whatever was there: its letter has been published.
local answers = {}
for index, key in ipairs(KEYS) do
    if ARGV[1] == 'done' then
        redis.call('SET', key, 'done', 'EX', ARGV[3])
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
