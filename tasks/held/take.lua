-- Pop what fits and record it as held, in one step: a worker that dies at any moment has lost nothing. What is not due
-- yet goes aside instead and takes no room; what has become due goes to the end of its list first. Begins with due.lua.
-- KEYS  register, held, holders, scheduled, protocol, then the lists of each queue, most urgent first; then
--       the tokens of each model
-- ARGV  1 messages at most   2 seconds of work at most   3 bytes at most   4 seconds left of the first turn
--       5 seconds in a turn   6 least that a message costs its turn   7 lists per queue   8 queues of high priority
--       9 messages that may go aside, and so many that may come back   10 the incarnation
--       11 what is before a Celery id in the key of its losses   12 our protocol   then per queue: seconds per request;
--       then per queue: number of its model among the tokens, 0 for none
-- Gives -1 when the incarnation is not registered, or was given up, or another protocol is spoken here, and then changes
-- nothing; 2 when so much went aside that it found nothing to take and there may be more; 1 when there is more in a
-- queue, else 0. Then a list of six entries per message: number of the queue (from 1), delivery tag, requests in it,
-- Celery id, whether it was held before (0 or 1), the message.
-- RPOP comes before anything that needs memory: a full Redis lets a script go on that has begun to write.
local FIXED, FIRST = 12, 6
local count, work_s, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local turn_s, least_s = tonumber(ARGV[5]), tonumber(ARGV[6])
local steps, high = tonumber(ARGV[7]), tonumber(ARGV[8])
local aside, back = tonumber(ARGV[9]), tonumber(ARGV[9])
local incarnation, loss_prefix = ARGV[10], ARGV[11]
local queues = (#ARGV - FIXED) / 2
local tokens = FIRST + queues * steps
if tonumber(redis.call('ZSCORE', KEYS[1], incarnation) or 0) == 0
    or (redis.call('GET', KEYS[5]) or ARGV[12]) ~= ARGV[12] then
    return { -1, {} }
end
local time = redis.call('TIME')
local now = string.format('%d.%06d', tonumber(time[1]), tonumber(time[2]))
local taken = {}

local function describe(raw)
    local tag, unsure_tag = field(raw, '"delivery_tag":', '^%s*"([^"\\]+)"')
    local n, unsure_n = field(raw, '"lowtide-n":', '^%s*(%d+)')
    local task, unsure_task = field(raw, '"id":', '^%s*"([^"\\]+)"')
    if unsure_tag or unsure_n or unsure_task or not tag then
        local headers, properties = parsed(raw)
        tag, n, task = properties['delivery_tag'], headers['lowtide-n'], headers['id']
    end
    n = tonumber(n or nil)
    -- A message without a tag is no message of kombu's: it still needs a name, the worker decides.
    return type(tag) == 'string' and string.find(tag, '^[\33-\126]+$') and tag or redis.sha1hex(raw),
        n and n >= 1 and math.min(n, 1e6) or 1,
        type(task) == 'string' and not string.find(task, '[%c]') and task or ''
end

-- Record as held under its tag, or under another where a message of that tag is held: not every publisher's are unique.
local function hold(tag, task, raw, list)
    local entry = list .. '\n' .. task .. '\n' .. raw
    while redis.call('HSETNX', KEYS[2], tag, entry) == 0 do
        tag = redis.sha1hex(tag .. raw)
    end
    if task ~= '' then
        redis.call('HSET', KEYS[3], task, incarnation)
    end
    return tag
end

-- To the end, as if it were sent now: it overtakes nobody. Pushed before it is removed, so that no error loses it.
local function bring_back()
    local left = bytes
    while back > 0 and left > 0 do
        local entry = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, 1)[1]
        if not entry then
            return
        end
        redis.call('ZREM', KEYS[4], '') -- a first write that needs no memory
        local list, raw = string.match(entry, '^([^\n]*)\n(.*)$')
        if list then
            redis.call('LPUSH', list, raw)
        end
        redis.call('ZREM', KEYS[4], entry)
        back, left = back - 1, left - #entry
    end
end

local function room()
    return count > 0 and work_s > 0 and bytes > 0 and aside > 0
end

-- The lists of a queue that exist. There are ten, and most of the time one or none.
local function existing(queue)
    local first, found = FIRST + (queue - 1) * steps, {}
    local left = redis.call('EXISTS', unpack(KEYS, first, first + steps - 1))
    for at = first, first + steps - 1 do
        if left > 0 and redis.call('EXISTS', KEYS[at]) == 1 then
            found[#found + 1], left = KEYS[at], left - 1
        end
    end
    return found
end

-- The next message of a queue that is due, and the list that it was in.
local lists = {}
local function next_of(queue)
    lists[queue] = lists[queue] or existing(queue)
    local list = lists[queue][1]
    while list and room() do
        local raw = redis.call('RPOP', list)
        local due = raw and due_at(raw)
        if due and due > tonumber(now) then
            redis.call('ZADD', KEYS[4], string.format('%.6f', due), list .. '\n' .. raw)
            aside, bytes = aside - 1, bytes - #raw
        elseif raw then
            return raw, list
        else
            table.remove(lists[queue], 1)
            list = lists[queue][1]
        end
    end
end

local function pop(queue)
    local raw, list = next_of(queue)
    if not raw then
        return nil
    end
    local tag, n, task = describe(raw)
    local seconds = tonumber(ARGV[FIXED + queue])
    taken[#taken + 1], taken[#taken + 2] = queue, hold(tag, task, raw, list)
    taken[#taken + 1], taken[#taken + 2] = string.format('%d', n), task
    taken[#taken + 1], taken[#taken + 2] = task ~= '' and redis.call('EXISTS', loss_prefix .. task) or 0, raw
    count, work_s, bytes = count - 1, work_s - n * seconds, bytes - #raw
    return math.max(n * seconds, least_s)
end

bring_back()
for queue = 1, high do
    while room() and pop(queue) do end
end

local left_s = tonumber(ARGV[4])
local any = queues > high
while any and room() do
    any = false
    for queue = high + 1, queues do
        while left_s > 0 and room() do
            local cost_s = pop(queue)
            if not cost_s then
                break
            end
            any, left_s = true, left_s - cost_s
        end
        left_s = turn_s
    end
end

-- Wake another for what stays behind, and nobody for what is gone. Gives whether something stays, 0 or 1.
local function pass_on()
    local lists, stays = { [0] = {} }, 0
    for queue = 1, queues do
        local model, first = tonumber(ARGV[FIXED + queues + queue]), FIRST + (queue - 1) * steps
        lists[model] = lists[model] or {}
        for at = first, first + steps - 1 do
            table.insert(lists[model], KEYS[at])
        end
    end
    for at = tokens, #KEYS do
        if redis.call('EXISTS', unpack(lists[at - tokens + 1])) == 0 then
            redis.pcall('DEL', KEYS[at])
        else
            stays = 1
            if redis.call('EXISTS', KEYS[at]) == 0 then
                wake(KEYS[at], 1)
            end
        end
    end
    -- Nobody waits for a token of those that are of no model.
    return (#lists[0] > 0 and redis.call('EXISTS', unpack(lists[0])) > 0) and 1 or stays
end

local stays = pass_on()
return { #taken == 0 and (aside <= 0 or bytes <= 0) and 2 or stays, taken }
