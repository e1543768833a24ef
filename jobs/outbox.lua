-- KEYS: the outbox, then the record if one job is meant. ARGV: operation, then what it needs.
--
-- | operation | needs | answers |
-- |---|---|---|
-- | hold | hold ms, most | {until, ids} |
-- | claim | job id, until, lease ms, fields | {now, until, values}, or nil |
-- | settle | job id, deliveries as read, deliveries now, due in ms or empty | 1, or 0: refused |
-- | release | job id and until of each | nothing |
--
-- A job that was deleted, or is not one that ended, leaves the outbox as it is claimed. Attempts are
-- recorded only where nobody has recorded one since the claim, so a repeated `settle` does nothing.

local outbox, record, operation = KEYS[1], KEYS[2], ARGV[1]

if operation == 'hold' then
  local ids = redis.call('ZRANGEBYSCORE', outbox, '-inf', integer(now), 'LIMIT', 0, ARGV[3])
  local till = integer(now + ARGV[2])
  for _, id in ipairs(ids) do
    redis.call('ZADD', outbox, till, id)
  end
  return {till, ids}
end

if operation == 'claim' then
  local id = ARGV[2]
  if tonumber(redis.call('ZSCORE', outbox, id) or -1) ~= tonumber(ARGV[3]) then
    return nil
  end
  local values = redis.call('HMGET', record, unpack(ARGV, 5))
  if not ENDED[values[1]] then
    redis.call('ZREM', outbox, id)
    return nil
  end
  local till = integer(now + ARGV[4])
  redis.call('ZADD', outbox, till, id)
  return {integer(now), till, values}
end

if operation == 'settle' then
  local id, due = ARGV[2], ARGV[5]
  local seen = redis.call('HMGET', record, 'status', 'deliveries')
  if not ENDED[seen[1]] or (seen[2] or '') ~= ARGV[3] then
    return 0
  end
  redis.call('HSET', record, 'deliveries', ARGV[4])
  redis.call('HINCRBY', record, 'revision', 1)
  if due ~= '' then
    redis.call('ZADD', outbox, due, id)
  else
    redis.call('ZREM', outbox, id)
    redis.call('HSET', record, 'webhook_secret', '')
  end
  return 1
end

for i = 2, #ARGV, 2 do
  if tonumber(redis.call('ZSCORE', outbox, ARGV[i]) or -1) == tonumber(ARGV[i + 1]) then
    redis.call('ZADD', outbox, integer(now), ARGV[i])
  end
end
