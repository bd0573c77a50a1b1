-- What is held, and how it goes back. Put before the scripts that move it.
-- An entry: key of the list that it was taken from, newline, Celery id, newline, the message.

local function opened(entry)
    return string.match(entry, '^([^\n]*)\n([^\n]*)\n(.*)$')
end

-- Gives 1 when it was held.
local function forget(held, holders, incarnation, tag, task)
    local was = redis.call('HDEL', held, tag)
    if task ~= '' and redis.call('HGET', holders, task) == incarnation then
        redis.call('HDEL', holders, task)
    end
    return was
end

-- To the end of its list from which others take, byte for byte. Gives the bytes; or nil when nothing of the tag is held,
-- or something else has the list's name, as to fail half-way would lose it: then the entry, if there is one.
-- Pushed before it is forgotten, so that no error loses it. Removing nothing comes first: what a full Redis lets begin
-- may go on.
local function put_back(held, holders, incarnation, tag, loss_prefix, expiry_s, lost)
    local entry = redis.call('HGET', held, tag)
    local list, task, raw
    if entry then
        list, task, raw = opened(entry)
    end
    if not list or type(redis.pcall('LLEN', list)) == 'table' then
        return nil, entry
    end
    redis.call('HDEL', held, '')
    redis.call('RPUSH', list, raw)
    forget(held, holders, incarnation, tag, task)
    if task ~= '' then
        redis.call('INCRBY', loss_prefix .. task, lost and 1 or 0)
        redis.call('EXPIRE', loss_prefix .. task, expiry_s)
    end
    return #raw
end
