-- When a message is due. Put before the scripts that ask.

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

-- Headers and properties as the parser sees them, empty where there are none.
local function parsed(raw)
    local ok, message = pcall(cjson.decode, raw)
    local function object(name)
        local found = ok and type(message) == 'table' and message[name]
        return type(found) == 'table' and found or {}
    end
    return object('headers'), object('properties')
end

-- Days since 1970 of a date of the Gregorian calendar: Howard Hinnant, days_from_civil.
local function days_of(year, month, day)
    year = month <= 2 and year - 1 or year
    local era = math.floor(year / 400)
    local of_era = year - era * 400
    local of_year = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
    return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year - 719468
end

-- Seconds east of Greenwich; nil when it says something else.
local function offset_of(zone)
    if zone == '' or zone == 'Z' then
        return 0 -- without a zone Celery takes it for UTC
    end
    local sign, hours, minutes = string.match(zone, '^([+-])(%d%d):?(%d%d)$')
    return sign and (sign == '-' and -1 or 1) * (hours * 3600 + minutes * 60)
end

-- Unix time of a date and time of ISO 8601 in the spellings of Celery and of other languages' clients; nil otherwise.
local function unix_of(text)
    local year, month, day, hour, minute, second, zone =
        string.match(text, '^(%d%d%d%d)-(%d%d)-(%d%d)[T ](%d%d):(%d%d):(%d%d%.?%d*)(.*)$')
    local offset = zone and offset_of(zone)
    year, month, day = tonumber(year), tonumber(month), tonumber(day)
    hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second)
    if not offset or month < 1 or month > 12 or day < 1 or day > 31 or hour > 23 or minute > 59 or second >= 60 then
        return nil
    end
    return days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset
end

-- Unix time from which a task may run (its header `eta`); nil when at once, or when only Celery can tell.
local function due_at(raw)
    local value, unsure = field(raw, '"eta":', '^%s*([^,}]-)%s*[,}]')
    if unsure then
        local eta = parsed(raw)['eta']
        return type(eta) == 'string' and unix_of(eta) or nil
    end
    local text = value and value ~= 'null' and string.match(value, '^"([^"\\]*)"$')
    return text and unix_of(text) or nil
end
