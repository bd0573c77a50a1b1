-- Who was heard of lately, by Redis' own clock. Writes nothing.
-- KEYS  the register, the hash of statuses; of workers also those who are suspect
-- ARGV  1 seconds   2 1 for the statuses of all, 0 for the number of those who are not suspect
-- Gives the number, or a list: name, status, name, status …
local since = redis.call('TIME')[1] - ARGV[1]
if ARGV[2] == '0' then
    local count = redis.call('ZCOUNT', KEYS[1], '(' .. since, '+inf')
    for _, name in ipairs(KEYS[3] and redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. since, '+inf') or {}) do
        if tonumber(redis.call('ZSCORE', KEYS[1], name) or 0) > tonumber(since) then -- else it is not in the count
            count = count - 1
        end
    end
    return count
end
local answer = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. since, '+inf')) do
    answer[#answer + 1], answer[#answer + 2] = name, redis.call('HGET', KEYS[2], name) or '{}'
end
return answer
