-- How many messages wait and are held, and how many requests are in a sample of them. Writes nothing. Begins with
-- lowtide.tasks.held's due.lua: what is not due yet is no work.
-- KEYS  register of workers, scheduled, then the lists
-- ARGV  1 a list or group of so many is read whole   2 of a longer one, so many from each end
--       3 bytes to read at most, of a sample of each; a first message is always read
--       4 bytes of all lists, after which of a further one only its length is read
--       5 seconds after which who was not heard of is dead   6 what is before the incarnation in the key of what it holds
-- Gives one entry per list: {length, messages read, requests in them, messages read that are not due}; then one per
-- group of what is held, by the living and by the dead, and one of the scheduled that are due: {messages, messages read, and for each
-- message read: the list that it is of, requests in it}; then the number of the scheduled that are not due; last, of all
-- messages read, the Unix time at which the oldest was sent, or fell due, or '' when none says.
local WHOLE, EDGE = tonumber(ARGV[1]), tonumber(ARGV[2])
local BYTES, ALL, QUIET_S = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local FIRST = 3
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

-- By plain search: see due.lua, where a key found twice is looked at more closely. Here it only blurs an estimate.
local oldest_at
local function requests(raw)
    local due = due_at(raw)
    if due and due > now then
        return nil
    end
    local _, last = string.find(raw, '"lowtide-n":', 1, true)
    local n = last and tonumber(string.match(raw, '^%s*(%d+)', last + 1) or nil)
    _, last = string.find(raw, '"lowtide-at":', last or 1, true) -- which follows it, where we wrote both
    local at = last and tonumber(string.match(raw, '^%s*(%d+%.?%d*)', last + 1) or nil)
    at = at and math.max(at, due or at)
    if at and not (oldest_at and oldest_at < at) then
        oldest_at = at
    end
    return math.min(math.max(n or 1, 1), 1e6)
end

-- Places to read, from 0: all, or both ends by turns, so that what the bytes cut off is missing at both.
local function places(length)
    local at = {}
    if length <= WHOLE then
        for place = 0, length - 1 do
            at[#at + 1] = place
        end
        return at
    end
    for place = 0, EDGE - 1 do
        at[#at + 1], at[#at + 2] = place, length - 1 - place
    end
    return at
end

local spent = 0
local function list(key)
    local length, read, sum, bytes, later = redis.call('LLEN', key), 0, 0, 0, 0
    for _, place in ipairs(places(length)) do
        if read > 0 and bytes > BYTES or spent > ALL then
            break
        end
        local raw = redis.call('LINDEX', key, place)
        local n = requests(raw)
        read, bytes, spent = read + 1, bytes + #raw, spent + #raw
        sum, later = sum + (n or 0), later + (n and 0 or 1)
    end
    return { length, read, sum, later }
end

-- Read whatever the lists have spent: of a group, only its messages tell which models it is of.
local function group(length, at, entry_at)
    local entry, read, bytes = { length, 0 }, 0, 0
    for _, place in ipairs(at) do
        if read > 0 and bytes > BYTES then
            break
        end
        local raw = entry_at(place)
        if raw then
            read, bytes = read + 1, bytes + #raw
            entry[#entry + 1] = string.match(raw, '^([^\n]*)\n') or ''
            entry[#entry + 1] = requests(raw) or 0
        end
    end
    entry[2] = read
    return entry
end

-- Places, from 0 and in order, that are equally far from each other: what one worker holds is like itself.
local function spread(length)
    local at, count = {}, math.min(length, WHOLE)
    for number = 0, count - 1 do
        at[#at + 1] = math.floor(number * length / count)
    end
    return at
end

-- What incarnations hold, in one row. Of many the tags are not read: any of the incarnation's stands for a place.
local function holding(incarnations)
    local length, ends = 0, {}
    for number, incarnation in ipairs(incarnations) do
        length = length + redis.call('HLEN', ARGV[6] .. incarnation)
        ends[number] = length
    end
    local whole, number, tags = length <= WHOLE, 0, {}
    return group(length, spread(length), function(place)
        while number == 0 or ends[number] <= place do
            number = number + 1
            tags = whole and redis.call('HKEYS', ARGV[6] .. incarnations[number]) or {}
        end
        local key = ARGV[6] .. incarnations[number]
        return redis.call('HGET', key, tags[ends[number] - place] or redis.call('HRANDFIELD', key))
    end)
end

local living, dead = {}, {}
local register = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for at = 1, #register, 2 do
    local of = tonumber(register[at + 1]) > now - QUIET_S and living or dead
    of[#of + 1] = register[at]
end

local due = redis.call('ZCOUNT', KEYS[2], '-inf', now)
local answer = {}
for at = FIRST, #KEYS do
    answer[#answer + 1] = list(KEYS[at])
end
answer[#answer + 1], answer[#answer + 2] = holding(living), holding(dead)
answer[#answer + 1] = group(due, places(due), function(place)
    return redis.call('ZRANGE', KEYS[2], place, place)[1]
end)
answer[#answer + 1] = redis.call('ZCARD', KEYS[2]) - due
answer[#answer + 1] = oldest_at and string.format('%.3f', oldest_at) or ''
return answer
