-- Forget messages whose work is done. A script and no transaction: a full Redis queues no transactions.
-- KEYS  held, holders    ARGV  1 the incarnation   then of each message its delivery tag and its Celery id
for at = 2, #ARGV, 2 do
    forget(KEYS[1], KEYS[2], ARGV[1], ARGV[at], ARGV[at + 1])
end
