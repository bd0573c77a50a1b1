-- Who was heard of lately, by Redis' own clock. Writes nothing.
-- KEYS  the register, the hash of statuses; of workers also those who are suspect
-- ARGV  1 seconds   2 1 for the statuses of all, 0 for the number of those who are not suspect
-- Gives the number, or a list: name, status, name, status …
local since = redis.call('TIME')[1] - ARGV[1]
if ARGV[2] == '0' then
    local suspect = KEYS[3] and redis.call('ZCOUNT', KEYS[3], '(' .. since, '+inf') or 0
    return redis.call('ZCOUNT', KEYS[1], '(' .. since, '+inf') - suspect
end
local answer = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. since, '+inf')) do
    answer[#answer + 1], answer[#answer + 2] = name, redis.call('HGET', KEYS[2], name) or '{}'
end
return answer
