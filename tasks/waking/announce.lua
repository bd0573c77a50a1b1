-- Wake a worker of each model that has tasks waiting and no token. Begins with tokens.lua.
-- KEYS  for each model: its tokens, then its lists    ARGV  1 lists of a model
local lists = tonumber(ARGV[1])
for at = 1, #KEYS, 1 + lists do
    if redis.call('EXISTS', unpack(KEYS, at + 1, at + lists)) > 0 and redis.call('EXISTS', KEYS[at]) == 0 then
        wake(KEYS[at], 1)
    end
end
