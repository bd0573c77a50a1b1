-- Forget messages whose work is done. A script and no transaction: a full Redis queues no transactions.
-- KEYS  unacked, unacked_index, held    ARGV  the delivery tags
for _, tag in ipairs(ARGV) do
    redis.call('ZREM', KEYS[2], tag)
    redis.call('HDEL', KEYS[1], tag)
    redis.call('ZREM', KEYS[3], tag)
end
