-- Pop what fits and record it as held, in one step: a worker that dies at any moment has lost nothing.
-- KEYS  unacked, unacked_index, held, then the lists of each queue, most urgent first
-- ARGV  1 messages at most   2 seconds of work at most   3 bytes at most   4 seconds left of the first turn
--       5 seconds in a turn   6 least that a message costs its turn   7 lists per queue   8 queues of high priority
--       9 expiry of held, seconds   then per queue: name, seconds per request
-- Gives four entries per message: number of the queue (from 1), delivery tag, requests in it, the message.
-- RPOP comes before anything that needs memory: a full Redis lets a script go on that has begun to write.
local FIXED = 9
local count, work_s, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local turn_s, least_s = tonumber(ARGV[5]), tonumber(ARGV[6])
local steps, high = tonumber(ARGV[7]), tonumber(ARGV[8])
local queues = (#ARGV - FIXED) / 2
local time = redis.call('TIME')
local now = string.format('%d.%06d', tonumber(time[1]), tonumber(time[2]))
local taken = {}

-- A key's value by plain search: parsing 4 MiB of JSON would hold up everyone. Inside a JSON string every quote is
-- escaped, so the name in quotes and a colon can only be a key; found twice, the parser must say which.
local function field(raw, name, pattern)
    local first, last = string.find(raw, name, 1, true)
    if not first then
        return nil, false
    end
    local value = string.match(raw, pattern, last + 1)
    return value, not value or string.find(raw, name, last + 1, true) ~= nil
end

local function parse(raw)
    local ok, message = pcall(cjson.decode, raw)
    if not ok or type(message) ~= 'table' then
        return nil, nil
    end
    local properties, headers = message['properties'], message['headers']
    return type(properties) == 'table' and properties['delivery_tag'],
        type(headers) == 'table' and headers['lowtide-n']
end

local function describe(raw)
    local tag, unsure_tag = field(raw, '"delivery_tag":', '^%s*"([^"\\]+)"')
    local n, unsure_n = field(raw, '"lowtide-n":', '^%s*(%d+)')
    if unsure_tag or unsure_n or not tag then
        tag, n = parse(raw)
    end
    -- A message without a tag is no message of kombu's: it still needs a name, the worker decides.
    return type(tag) == 'string' and tag or redis.sha1hex(raw), math.min(math.max(tonumber(n or nil) or 1, 1), 1e6)
end

local function pop(queue)
    local raw = false
    for step = 1, steps do
        raw = raw or redis.call('RPOP', KEYS[3 + (queue - 1) * steps + step])
    end
    if not raw then
        return nil
    end
    local tag, n = describe(raw)
    local name, seconds = ARGV[FIXED + 2 * queue - 1], tonumber(ARGV[FIXED + 2 * queue])
    -- As kombu writes it: message, exchange, routing key. The anonymous exchange's routing key is the queue.
    redis.call('HSET', KEYS[1], tag, '[' .. raw .. ', "", ' .. cjson.encode(name) .. ']')
    redis.call('ZADD', KEYS[2], now, tag)
    redis.call('ZADD', KEYS[3], now, tag)
    taken[#taken + 1], taken[#taken + 2] = queue, tag
    taken[#taken + 1], taken[#taken + 2] = string.format('%d', n), raw
    count, work_s, bytes = count - 1, work_s - n * seconds, bytes - #raw
    return math.max(n * seconds, least_s)
end

local function room()
    return count > 0 and work_s > 0 and bytes > 0
end

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

if #taken > 0 then
    redis.call('EXPIRE', KEYS[3], tonumber(ARGV[9]))
end
return taken
