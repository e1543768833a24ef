-- The one script through which a job's record changes: see jobs/transitions.py.

local operation, id, token = ARGV[1], ARGV[2], ARGV[3]
local prefix, result_ttl, tombstone_ttl = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])

local function key(...)
  return table.concat({prefix, ...}, ':')
end

local queued, running, garbage, ended = key('queued'), key('running'), key('garbage'), key('ended')

local DAY = 24 * 3600 * 1000
local GONE = {deleted = true, expired = true, evicted = true}

-- One record

local function read(job, field)
  return redis.call('HGET', key('job', job), field)
end

-- A field that is there and not empty, or false.
local function given(job, field)
  local value = read(job, field)
  return value and value ~= '' and value
end

local function write(job, ...)
  redis.call('HSET', key('job', job), ...)
end

-- Append fields of a record, each after its name.
local function append(list, job, names)
  for place, value in ipairs(redis.call('HMGET', key('job', job), unpack(names))) do
    list[#list + 1] = names[place]
    list[#list + 1] = value or ''
  end
  return list
end

-- A job is to run from its beginning.
local function rewind(job, ...)
  write(job, 'status', 'queued', 'started_at', '', 'fraction', 0, 'stage', '', 'detail', '',
    'counts', '', ...)
end

local SHOWN = {'status', 'attempts', 'fraction', 'stage', 'detail', 'counts'}

-- Append an event to the job's stream, and tell it to whoever listens.
local function tell(job, kind)
  local revision = redis.call('HINCRBY', key('job', job), 'revision', 1)
  local event = append({'type', kind, 'revision', revision, 'at', iso(now)}, job, SHOWN)
  local told = {job = job, event = redis.call('XADD', key('events', job), 'MAXLEN', '~', '1000',
    '*', unpack(event))}
  for place = 1, #event, 2 do
    told[event[place]] = event[place + 1]
  end
  redis.call('PUBLISH', key('changes'), cjson.encode(told))
end

-- The queue. Callers take turns: a job's place is one after its caller's last place, or after the
-- last that was started where that is later, so who has nothing waiting comes next (start-time fair
-- queueing: Goyal, Vin and Cheng 1996).

local function count_waiting(job, change)
  local owner = read(job, 'owner')
  if redis.call('HINCRBY', key('waiting'), owner, change) <= 0 then
    redis.call('HDEL', key('waiting'), owner)
  end
end

local function new_place(caller)
  local last = tonumber(redis.call('HGET', key('places'), caller) or 0)
  local served = tonumber(redis.call('GET', key('served')) or 0)
  local place = integer(math.max(last, served) + 1)
  redis.call('HSET', key('places'), caller, place)
  return place
end

local function enqueue(job)
  redis.call('ZADD', queued, read(job, 'place'), job)
  count_waiting(job, 1)
end

local function dequeue(job)
  local was_queued = redis.call('ZREM', queued, job) == 1
  if was_queued then
    count_waiting(job, -1)
  end
  return was_queued
end

-- A job that is not started after all: its caller's next takes its turn.
local function forgo(job)
  local caller, served = read(job, 'caller'), tonumber(redis.call('GET', key('served')) or 0)
  local last = tonumber(redis.call('HGET', key('places'), caller) or 0) - 1
  if last <= served then
    redis.call('HDEL', key('places'), caller)
  elseif tonumber(read(job, 'place')) > served then
    redis.call('HSET', key('places'), caller, integer(last))
  end
end

local function serve(job)
  local caller, place = read(job, 'caller'), read(job, 'place')
  if tonumber(place) > tonumber(redis.call('GET', key('served')) or 0) then
    redis.call('SET', key('served'), place)
  end
  if redis.call('HGET', key('places'), caller) == place then
    redis.call('HDEL', key('places'), caller)
  end
  dequeue(job)
end

local function lease(lease_ms)
  redis.call('ZADD', running, integer(now + lease_ms), id)
end

-- Equal jobs: one computes, those that follow it are shown what becomes of it.

local function followers(job)
  return redis.call('SMEMBERS', key('followers', job))
end

local function equal(job)
  return key('equal', read(job, 'owner'), read(job, 'fingerprint'))
end

local function forget_equal(job)
  if given(job, 'fingerprint') and redis.call('GET', equal(job)) == job then
    redis.call('DEL', equal(job))
  end
end

-- Let a job serve those that come, unless one that has succeeded does.
local function offer(job)
  if given(job, 'fingerprint') then
    local serves = redis.call('GET', equal(job))
    if not serves or read(serves, 'status') ~= 'succeeded' then
      redis.call('SET', equal(job), job)
    end
  end
end

local MIRRORED = {'status', 'attempts', 'fraction', 'stage', 'detail', 'counts', 'started_at'}

local function tell_all(kind)
  tell(id, kind)
  local alike = followers(id)
  if #alike == 0 then
    return
  end
  local mirrored = append({}, id, MIRRORED)
  for _, job in ipairs(alike) do
    write(job, unpack(mirrored))
    tell(job, kind)
  end
end

-- Ends

-- A job that has bytes may make room.
local function spare(job)
  if given(job, 'run') and read(job, 'pinned') ~= '1' then
    redis.call('ZADD', key('spare'), read(job, 'finished_ms'), job)
  end
end

-- A job that has ended is kept for as long as all are, from now on.
local function keep_until_expiry(job)
  redis.call('ZADD', ended, integer(now), job)
  write(job, 'expires_at', result_ttl > 0 and iso(now + result_ttl) or '')
  spare(job)
end

-- What a pinned job kept may make room again.
local function spare_holders(run)
  for _, job in ipairs(redis.call('SMEMBERS', key('holders', run))) do
    spare(job)
  end
end

-- Whether bytes stay whoever else lets go of them.
local function is_kept(run)
  for _, job in ipairs(redis.call('SMEMBERS', key('holders', run))) do
    if read(job, 'pinned') == '1' then
      return true
    end
  end
  return false
end

local function finish(job, status, ...)
  write(job, 'status', status, 'finished_at', iso(now), 'finished_ms', integer(now), ...)
  if read(job, 'pinned') ~= '1' then
    keep_until_expiry(job)
  end
  if status ~= 'succeeded' then
    forget_equal(job)
  end
  if given(job, 'webhook') then
    redis.call('ZADD', key('outbox'), integer(now), job)
  end
  tell(job, 'status')
end

-- A job and all that follow it end alike.
local function finish_all(status, ...)
  local alike = followers(id)
  redis.call('DEL', key('followers', id))
  finish(id, status, ...)
  if status == 'succeeded' then
    offer(id)
  end
  for _, job in ipairs(alike) do
    write(job, 'attempts', read(id, 'attempts'), 'started_at', read(id, 'started_at') or '',
      'follows', '')
    finish(job, status, ...)
    if status == 'succeeded' then
      redis.call('SADD', key('holders', read(job, 'run')), job)
    end
  end
end

local function drop_attempt(zombie_ms)
  local holder = given(id, 'token')
  if holder then
    redis.call('ZADD', garbage, integer(now + zombie_ms), id .. '/' .. holder)
  end
  redis.call('ZREM', running, id)
  write(id, 'token', '')
end

-- A job that will not compute leaves its followers to the first of them, which is queued for all.
local function hand_over()
  local follows = given(id, 'follows')
  if follows then
    redis.call('SREM', key('followers', follows), id)
    write(id, 'follows', '')
    return ''
  end
  local alike = followers(id)
  redis.call('DEL', key('followers', id))
  if #alike == 0 then
    return ''
  end
  table.sort(alike)
  local heir = table.remove(alike, 1)
  rewind(heir, 'follows', '', 'reused_from', '', 'attempts', 0,
    'place', new_place(read(heir, 'caller')))
  enqueue(heir)
  offer(heir)
  tell(heir, 'status')
  for _, job in ipairs(alike) do
    redis.call('SADD', key('followers', heir), job)
    rewind(job, 'follows', heir, 'reused_from', heir, 'attempts', 0)
    tell(job, 'status')
  end
  return heir
end

-- Stop whatever is still to be done for the job; the heir of its followers, who needs a ticket.
local function abandon(zombie_ms)
  if dequeue(id) then
    forgo(id)
  end
  drop_attempt(zombie_ms)
  return hand_over()
end

local function release_bytes()
  local run = given(id, 'run')
  if not run then
    return
  end
  redis.call('SREM', key('holders', run), id)
  local others = redis.call('SMEMBERS', key('holders', run))
  if #others == 0 then
    redis.call('ZADD', garbage, integer(now), run)
    redis.call('DECRBY', key('stored'), given(id, 'bytes') or 0)
  elseif given(id, 'fingerprint') and redis.call('GET', equal(id)) == id then
    table.sort(others)
    redis.call('SET', equal(id), others[1])
  end
  if read(id, 'pinned') == '1' then
    spare_holders(run)
  end
end

-- Creation

-- Take a job's tokens from those of its owner's day; what to answer where they are too many.
local function spend(owner, tokens, most)
  local today = math.floor(now / DAY)
  local spent = key('tokens', owner, integer(today))
  local left = most - tonumber(redis.call('GET', spent) or 0)
  if tokens > left then
    return {'spent', integer(left) .. ' ' .. integer((today + 1) * DAY - now)}
  end
  redis.call('INCRBY', spent, integer(tokens))
  redis.call('PEXPIREAT', spent, integer((today + 2) * DAY))
end

-- Give the job the result of an equal one, now or when that has it.
local function share(first, state)
  write(id, 'reused_from', given(first, 'reused_from') or first)
  if state == 'succeeded' then
    local run = read(first, 'run')
    redis.call('SADD', key('holders', run), id)
    finish(id, 'succeeded', 'run', run, 'artifacts', read(first, 'artifacts'),
      'bytes', read(first, 'bytes'), 'fraction', 1)
  else
    write(id, 'follows', first, unpack(append({}, first, MIRRORED)))
    redis.call('SADD', key('followers', first), id)
    tell(id, 'status')
  end
end

-- What anybody may do

local status, holder = read(id, 'status'), read(id, 'token')
local operations = {}

function operations.create()
  local request, pass, caller, text_bytes, owner, summary = unpack(ARGV, 7, 12)
  local webhook, secret, fingerprint, once, body, once_ttl, most, following = unpack(ARGV, 13, 20)
  local tokens, most_tokens = tonumber(ARGV[21]), tonumber(ARGV[22])
  if status then
    return {given(id, 'reused_from') and 'shared' or 'queued', id}
  end
  if once ~= '' then
    local before = redis.call('GET', key('once', owner, once))
    if before then
      local job, same = string.match(before, '^(%S+) (%S+)$')
      return {same == body and 'same' or 'other', job}
    end
  end
  local first = fingerprint ~= '' and redis.call('GET', key('equal', owner, fingerprint))
  local state = first and read(first, 'status')
  local is_ahead = state == 'queued' or state == 'running'
  local can_share = state == 'succeeded'
    or (is_ahead and redis.call('SCARD', key('followers', first)) < tonumber(following))
  if not can_share and tonumber(most) > 0
    and tonumber(redis.call('HGET', key('waiting'), owner) or 0) >= tonumber(most) then
    return {'full', ''}
  end
  local refusal = not can_share and most_tokens > 0 and spend(owner, tokens, most_tokens)
  if refusal then
    return refusal
  end
  if once ~= '' then
    redis.call('SET', key('once', owner, once), id .. ' ' .. body, 'PX', once_ttl)
  end
  write(id, 'status', 'queued', 'request', request, 'created_at', iso(now), 'attempts', 0,
    'deaths', 0, 'token', '', 'fraction', 0, 'stage', '', 'detail', '', 'counts', '', 'pass', pass,
    'caller', caller, 'text_bytes', text_bytes, 'alone', 0, 'company', 0, 'owner', owner,
    'summary', summary, 'webhook', webhook, 'webhook_secret', secret, 'fingerprint', fingerprint)
  redis.call('ZADD', key('owned', owner), 0, id)
  if can_share then
    share(first, state)
    return {'shared', id}
  end
  offer(id)
  write(id, 'place', new_place(caller))
  enqueue(id)
  tell(id, 'status')
  return {'queued', id}
end

function operations.start()
  if status == 'queued' and not given(id, 'follows') then
    redis.call('HINCRBY', key('job', id), 'attempts', 1)
    write(id, 'status', 'running', 'token', token, 'worker', ARGV[7], 'started_at', iso(now),
      'company', ARGV[9])
    serve(id)
    lease(ARGV[8])
    tell_all('status')
  elseif status ~= 'running' or holder ~= token then
    redis.call('ZREM', queued, id)
    return nil
  end
  return redis.call('HMGET', key('job', id), 'attempts', 'request')
end

function operations.give_up()
  local expired_only, died, deaths, problem, zombie_ms = unpack(ARGV, 7, 11)
  if status ~= 'running' or not given(id, 'token') or (token ~= '' and token ~= holder) then
    return nil
  end
  if expired_only == '1' and tonumber(redis.call('ZSCORE', running, id) or 0) > now then
    return nil
  end
  drop_attempt(zombie_ms)
  local counts = died == '1'
  if counts and read(id, 'company') == '1' then
    write(id, 'alone', 1)
    counts = false
  end
  local so_far = redis.call('HINCRBY', key('job', id), 'deaths', counts and 1 or 0)
  if counts and so_far >= tonumber(deaths) then
    finish_all('failed', 'error', problem)
  else
    rewind(id, 'worker', '')
    enqueue(id)
    tell_all('status')
  end
  return read(id, 'status')
end

function operations.cancel()
  if not status or GONE[status] then
    return nil
  end
  if ENDED[status] then
    return {status, ''}
  end
  local heir = abandon(ARGV[7])
  finish(id, 'cancelled', 'stage', '', 'detail', '', 'counts', '')
  return {'cancelled', heir}
end

function operations.remove()
  local why, zombie_ms = ARGV[7], ARGV[8]
  if not status or GONE[status] then
    return nil
  end
  -- It may have been pinned after whoever removes it has chosen it.
  if why ~= 'deleted' and read(id, 'pinned') == '1' then
    return nil
  end
  local run = given(id, 'run')
  if why == 'evicted' and run and is_kept(run) then
    redis.call('ZREM', key('spare'), id)
    return nil
  end
  local heir = ENDED[status] and '' or abandon(zombie_ms)
  release_bytes()
  forget_equal(id)
  local owner = read(id, 'owner')
  redis.call('ZREM', key('owned', owner), id)
  redis.call('ZREM', ended, id)
  redis.call('ZREM', key('spare'), id)
  redis.call('ZREM', key('outbox'), id)
  redis.call('DEL', key('job', id), key('events', id))
  write(id, 'status', why, 'owner', owner)
  redis.call('PEXPIRE', key('job', id), tombstone_ttl)
  redis.call('HINCRBY', key('departed'), why, 1)
  redis.call('PUBLISH', key('changes'), cjson.encode({job = id, type = 'gone', status = why}))
  return {why, heir}
end

function operations.pin()
  if not status or GONE[status] then
    return nil
  end
  if (read(id, 'pinned') == '1') ~= (ARGV[7] == '1') then
    write(id, 'pinned', ARGV[7])
    if not ENDED[status] then
      tell(id, 'progress')
      return 'ok'
    end
    -- Nobody is told: who follows an ended job has heard the last of it.
    redis.call('HINCRBY', key('job', id), 'revision', 1)
    if ARGV[7] == '1' then
      redis.call('ZREM', ended, id)
      redis.call('ZREM', key('spare'), id)
      write(id, 'expires_at', '')
    else
      keep_until_expiry(id)
      if given(id, 'run') then
        spare_holders(read(id, 'run'))
      end
    end
  end
  return 'ok'
end

-- Note of some ended jobs that they may make room: those from a cursor on. Where to go on.
function operations.spare()
  local cursor, found = unpack(redis.call('ZSCAN', ended, ARGV[7], 'COUNT', 1000))
  for place = 1, #found, 2 do
    spare(found[place])
  end
  return cursor
end

if operations[operation] then
  return operations[operation]()
end

-- What only the holder of the job may do

local outcome = ({succeed = 'succeeded', fail = 'failed'})[operation]
if not status or holder ~= token or (status ~= 'running' and status ~= outcome) then
  return 'stale'
end
if status == outcome then
  return 'ok'
end

if operation == 'renew' then
  lease(ARGV[7])
elseif operation == 'progress' then
  local lease_ms, fraction, stage, detail, counts = unpack(ARGV, 7, 11)
  local reached = read(id, 'fraction')
  write(id, 'fraction', tonumber(fraction) > tonumber(reached) and fraction or reached,
    'stage', stage, 'detail', detail, 'counts', counts)
  lease(lease_ms)
  tell_all('progress')
elseif operation == 'succeed' then
  local run, bytes = id .. '/' .. token, ARGV[8]
  redis.call('ZREM', running, id)
  redis.call('SADD', key('holders', run), id)
  redis.call('INCRBY', key('stored'), bytes)
  finish_all('succeeded', 'artifacts', ARGV[7], 'bytes', bytes, 'run', run, 'fraction', 1,
    'stage', '', 'detail', '', 'counts', '')
else
  redis.call('ZREM', running, id)
  redis.call('ZADD', garbage, integer(now), id .. '/' .. token)
  finish_all('failed', 'error', ARGV[7])
end
return 'ok'
