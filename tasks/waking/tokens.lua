-- Wake workers that wait: each token wakes one. Put before the scripts that do. What Redis refuses here, because it is
-- full or something else has the key's name, is no error: an idle worker looks once a second anyway.
-- Who finds nobody waiting leaves a token that nobody needs: so few may lie there, and so briefly.
local TOKENS, TOKEN_S = 32, 10
local function wake(key, count)
    local tokens = {}
    for at = 1, math.min(count, TOKENS) do
        tokens[at] = ''
    end
    local lying = redis.pcall('RPUSH', key, unpack(tokens))
    if type(lying) == 'number' and lying > TOKENS then
        redis.pcall('LTRIM', key, -TOKENS, -1)
    end
    redis.pcall('EXPIRE', key, TOKEN_S)
end
