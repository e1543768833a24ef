"""The one script through which a job's record changes.

A transition compares the record's status and fencing token, writes the record, its place in the
indexes and an event in the job's stream (which keeps about its last thousand), all or nothing, and
publishes the event. A client repeats a command whose answer was lost, so each operation, repeated
with the same arguments, changes nothing more and answers as before. Only a repeated give_up or
remove answers nil, for by then there is nothing left, and a repeated cancel names no job to send:
the reaper sends what has no ticket.

A death in company, beside other jobs on one runner, is nobody's yet: it is not counted, but the job
runs alone from then on.

Of equal jobs of one owner the first computes. Those that come while it does follow it: they are
shown what becomes of it and end as it ends; if it is cancelled or deleted, the first of them is
queued in its place. Those that come later share its bytes, which go when the last holder goes.

A creation's outcome: `queued`; `shared` with an equal job; `same` or `other`, when its idempotency
key has made a job of the same or of another body, of which the id is answered; `full`, when its
owner may have no more jobs queued; `spent`, when its owner may not have so many tokens computed
today, of which those left and the milliseconds to the next day (UTC) are answered.

`stale` and nil refuse. ARGV: operation, job id, fencing token, key prefix, result_ttl and
tombstone_ttl in ms, then what the operation needs:

| operation | needs | from | to | answers |
|---|---|---|---|---|
| create | `jobs.submission.creation` | nothing | queued, running, succeeded | {outcome, job id} |
| start | worker, lease ms, in company | queued | running | {attempts, request}, or nil |
| renew | lease ms | running | running | `ok`, or `stale` |
| progress | lease ms, fraction, stage, detail, counts | running | running | `ok`, or `stale` |
| succeed | artifacts, bytes | running | succeeded | `ok`, or `stale` |
| fail | problem | running | failed | `ok`, or `stale` |
| give_up | expired only, died, deaths, problem, zombie ms | running | queued, failed | status |
| cancel | zombie ms | queued, running | cancelled | {status, job to send}, or nil |
| remove | why, zombie ms | any | deleted, expired, evicted | {status, job to send}, or nil |
| pin | 0 or 1 | any | the same | `ok`, or nil |
| spare | a cursor, of no job | any | the same | the next cursor, 0 after the last |

A pinned job is removed as `deleted` only, and none as `evicted` whose bytes a pinned one shares.
What is removed leaves its status and owner for a while, so that it is told from what never was.

The keys of the records that a transition touches follow from the record, so the script names none
beforehand: one server, or one with replicas, but no cluster.
"""

from jobs.scripts import script

SCRIPT = script("transitions.lua")
