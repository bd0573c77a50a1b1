-- Who was heard of lately, by Redis' own clock. Writes nothing.
-- KEYS  the register, the hash of statuses    ARGV  1 seconds   2 1 for their statuses as well, 0 for their number
-- Gives the number, or a list: name, status, name, status …
local since = redis.call('TIME')[1] - ARGV[1]
if ARGV[2] == '0' then
    return redis.call('ZCOUNT', KEYS[1], '(' .. since, '+inf')
end
local answer = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. since, '+inf')) do
    answer[#answer + 1], answer[#answer + 2] = name, redis.call('HGET', KEYS[2], name) or '{}'
end
return answer
