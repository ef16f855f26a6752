"""The steps in which a ticket changes, in Lua: Redis runs each as one, so nobody ever sees a half of it."""

from __future__ import annotations

# KEYS ticket, result, open, failed.
# ARGV job id, now, retry budget, limit of open jobs, job as JSON, version, 1 for what is not delivered.
# -> "enqueue" when the caller must put it on a queue, else the state.
REQUEST = """
local state = redis.call('HGET', KEYS[1], 'state')
redis.call('HDEL', KEYS[1], 'outdated')
if state == 'queued' or state == 'running' then return state end
if state == 'done' and redis.call('EXISTS', KEYS[2]) == 1 then return state end
if state == 'failed' and tonumber(redis.call('HGET', KEYS[1], 'failures') or '0') > tonumber(ARGV[3]) then
  return state
end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[4]) then return 'refused' end
redis.call('HSET', KEYS[1], 'state', 'queued', 'asked', ARGV[2], 'job', ARGV[5], 'version', ARGV[6])
if ARGV[7] == '1' then redis.call('HSET', KEYS[1], 'trial', 1) end
redis.call('HDEL', KEYS[1], 'answered', 'delivered', 'pushing')
redis.call('PERSIST', KEYS[1])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
return 'enqueue'
"""

# KEYS ticket. ARGV now. -> 1 unless the job was cancelled meanwhile.
START = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'state', 'running', 'started', ARGV[1])
return 1
"""

# KEYS ticket, result, open, outbox, failed, counters.
# ARGV job id, now, result, found labels, their scores, seconds to live, what it lacks ("" for nothing), why (a kind).
# The mask goes to the outbox at once, or when the request that waits for it would have given up. A trial, and what was
# asked for under a labeling config that has changed since, is only kept for a while. What it lacks is listed with
# the failed ones.
FINISH = """
if redis.call('EXISTS', KEYS[1]) == 0 then return end
redis.call('SET', KEYS[2], ARGV[3])
redis.call('HSET', KEYS[1], 'state', 'done', 'finished', ARGV[2], 'found', ARGV[4], 'scores', ARGV[5])
redis.call('HDEL', KEYS[1], 'error', 'kind')
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[7], 'kind', ARGV[8]) end
if redis.call('HEXISTS', KEYS[1], 'trial') == 1 or redis.call('HEXISTS', KEYS[1], 'outdated') == 1 then
  redis.call('EXPIRE', KEYS[1], ARGV[6])
  redis.call('EXPIRE', KEYS[2], ARGV[6])
  return
end
if ARGV[7] ~= '' then
  redis.call('ZADD', KEYS[5], ARGV[2], ARGV[1])
  redis.call('HINCRBY', KEYS[6], 'failed', 1)
  redis.call('HINCRBY', KEYS[6], 'failed:' .. ARGV[8], 1)
end
redis.call('PERSIST', KEYS[1])
local due = math.max(tonumber(ARGV[2]), tonumber(redis.call('HGET', KEYS[1], 'hold') or '0'))
redis.call('ZADD', KEYS[4], due, ARGV[1])
"""

# KEYS ticket. ARGV state to be in, error. A worker given up for dead may have finished all the same.
RETRY = """
if redis.call('HGET', KEYS[1], 'state') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'state', 'queued', 'error', ARGV[2])
end
"""

# KEYS ticket, open, failed, counters. ARGV job id, now, error, seconds to live, kind of failure.
FAIL = """
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then return end
redis.call('HSET', KEYS[1], 'state', 'failed', 'finished', ARGV[2], 'error', ARGV[3], 'kind', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'failures', 1)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call('HINCRBY', KEYS[4], 'failed', 1)
redis.call('HINCRBY', KEYS[4], 'failed:' .. ARGV[5], 1)
"""

# KEYS ticket, open. ARGV job id, 1 when what runs is to be kept from its task.
# -> the state that it was in: "queued" is gone now, "running" goes on.
CANCEL = """
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'queued' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
elseif state == 'running' and ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], 'outdated', 1)
end
return state
"""
