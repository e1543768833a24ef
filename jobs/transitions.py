"""The one script through which a job's record changes.

A transition compares the record's status and fencing token, writes the record, its place in the
indexes and an event in the job's stream (which keeps about its last thousand), all or nothing. Time
is the server's own, so the clocks of the machines around it do not matter. A client repeats a
command whose answer was lost, so each operation, repeated with the same arguments, changes nothing
more and answers as before; only a repeated give_up answers nil, for by then there is nothing left
to give up.

A death in company, beside other jobs on one runner, is nobody's yet: it is not counted, but the job
runs alone from then on.

`stale` and nil refuse. KEYS: the record, its events, queued, running, garbage, sequence.
ARGV: operation, job id, fencing token, then what the operation needs:

| operation | needs | from | to | answers |
|---|---|---|---|---|
| create | request, pass, caller, text bytes | nothing | queued | `ok` |
| start | worker, lease ms, in company | queued | running | {attempts, request}, or nil |
| renew | lease ms | running | running | `ok`, or `stale` |
| progress | lease ms, fraction, stage, detail | running | running | `ok`, or `stale` |
| succeed | artifacts | running | succeeded | `ok`, or `stale` |
| fail | problem | running | failed | `ok`, or `stale` |
| give_up | expired only, died, deaths, problem, garbage ms | running | queued, failed | status |

The civil date in `iso` follows H. Hinnant, "chrono-Compatible Low-Level Date Algorithms",
civil_from_days, which is exact for every day of the Gregorian calendar.
"""

ISO = """
local function iso(ms)
  local days = math.floor(ms / 86400000)
  local rest = ms - days * 86400000
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local seconds = math.floor(rest / 1000)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day,
    math.floor(seconds / 3600), math.floor(seconds / 60) % 60, seconds % 60, rest % 1000)
end
"""

SCRIPT = (
    ISO
    + """
local record, events, queued, running, garbage, sequence = unpack(KEYS)
local operation, id, token = ARGV[1], ARGV[2], ARGV[3]

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function integer(number)
  return string.format('%.0f', number)
end

local function write(...)
  redis.call('HSET', record, ...)
end

local function tell(kind)
  local revision = redis.call('HINCRBY', record, 'revision', 1)
  local seen = redis.call('HMGET', record, 'status', 'attempts', 'fraction', 'stage', 'detail')
  redis.call('XADD', events, 'MAXLEN', '~', '1000', '*', 'type', kind, 'revision', revision,
    'at', iso(now), 'status', seen[1], 'attempts', seen[2], 'fraction', seen[3],
    'stage', seen[4], 'detail', seen[5])
end

local function lease(length)
  redis.call('ZADD', running, integer(now + length), id)
end

local status = redis.call('HGET', record, 'status')
local holder = redis.call('HGET', record, 'token')

if operation == 'create' then
  if status then
    return 'ok'
  end
  local place = redis.call('INCR', sequence)
  write('status', 'queued', 'request', ARGV[4], 'created_at', iso(now), 'sequence', place,
    'attempts', 0, 'deaths', 0, 'token', '', 'fraction', 0, 'stage', '', 'detail', '',
    'pass', ARGV[5], 'caller', ARGV[6], 'text_bytes', ARGV[7], 'alone', 0, 'company', 0)
  redis.call('ZADD', queued, place, id)
  tell('status')
  return 'ok'
end

if operation == 'start' then
  if status == 'queued' then
    redis.call('HINCRBY', record, 'attempts', 1)
    write('status', 'running', 'token', token, 'worker', ARGV[4], 'started_at', iso(now),
      'company', ARGV[6])
    redis.call('ZREM', queued, id)
    lease(ARGV[5])
    tell('status')
  elseif status ~= 'running' or holder ~= token then
    return nil
  end
  return redis.call('HMGET', record, 'attempts', 'request')
end

if operation == 'give_up' then
  if status ~= 'running' or (token ~= '' and token ~= holder) then
    return nil
  end
  if ARGV[4] == '1' and tonumber(redis.call('ZSCORE', running, id) or 0) > now then
    return nil
  end
  redis.call('ZREM', running, id)
  redis.call('ZADD', garbage, integer(now + ARGV[8]), id .. '/' .. holder)
  local died = ARGV[5] == '1'
  local in_company = redis.call('HGET', record, 'company') == '1'
  if died and in_company then
    write('alone', 1)
    died = false
  end
  local deaths = redis.call('HINCRBY', record, 'deaths', died and 1 or 0)
  if died and deaths >= tonumber(ARGV[6]) then
    write('status', 'failed', 'token', '', 'finished_at', iso(now), 'error', ARGV[7])
  else
    write('status', 'queued', 'token', '', 'worker', '', 'started_at', '', 'fraction', 0,
      'stage', '', 'detail', '')
    redis.call('ZADD', queued, redis.call('HGET', record, 'sequence'), id)
  end
  tell('status')
  return redis.call('HGET', record, 'status')
end

local ended = ({succeed = 'succeeded', fail = 'failed'})[operation]
if holder ~= token or (status ~= 'running' and status ~= ended) then
  return 'stale'
end
if status == ended then
  return 'ok'
end

if operation == 'renew' then
  lease(ARGV[4])
elseif operation == 'progress' then
  local reached = redis.call('HGET', record, 'fraction')
  local fraction = tonumber(ARGV[5]) > tonumber(reached) and ARGV[5] or reached
  write('fraction', fraction, 'stage', ARGV[6], 'detail', ARGV[7])
  lease(ARGV[4])
  tell('progress')
else
  redis.call('ZREM', running, id)
  write('status', ended, 'finished_at', iso(now))
  if operation == 'succeed' then
    write('artifacts', ARGV[4], 'fraction', 1, 'stage', '', 'detail', '')
  else
    write('error', ARGV[4])
    redis.call('ZADD', garbage, integer(now), id .. '/' .. token)
  end
  tell('status')
end
return 'ok'
"""
)
