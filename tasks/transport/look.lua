-- What is held and when it was last touched, of one moment: a message between two looks would seem half a message.
-- KEYS  unacked, unacked_index
-- Gives the tags in unacked, then the tags and scores of the index.
return { redis.call('HKEYS', KEYS[1]), redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES') }
