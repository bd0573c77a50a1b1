-- Forget messages whose work is done, and what befell their tasks before: who sends one of that id again sends another.
-- A script and no transaction: a full Redis queues no transactions. Begins with held.lua.
-- KEYS  held, holders
-- ARGV  1 the incarnation   2, 3, 4 what is before a Celery id in the keys of losses, strikes and parts
--       then of each message its delivery tag and its Celery id
for at = 5, #ARGV, 2 do
    local task = ARGV[at + 1]
    if forget(KEYS[1], KEYS[2], ARGV[1], ARGV[at], task) == 1 and task ~= '' then
        redis.call('DEL', ARGV[2] .. task, ARGV[3] .. task, ARGV[4] .. task)
    end
end
