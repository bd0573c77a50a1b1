-- Count attempts of many messages at once.
-- KEYS  lt2:try:<m>, one per message    ARGV  1 expiry, seconds   2… how many attempts there are now at the least
-- Gives how many there are. Run again it changes nothing: a call that had no answer may have had its effect.
local answers = {}
for index, key in ipairs(KEYS) do
    local tries = math.max(tonumber(redis.call('GET', key) or 0), tonumber(ARGV[index + 1]))
    redis.call('SET', key, tries, 'EX', ARGV[1])
    answers[index] = tries
end
return answers
