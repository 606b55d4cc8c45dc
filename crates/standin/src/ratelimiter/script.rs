//! Atomic scripts for Redis. Times come from the clock of Redis, in milliseconds, so that differences between the clocks of the nodes do
//! not matter.
//!
//! | key | content |
//! |---|---|
//! | `ratelimiter:window:KEY` | sorted set with one entry per allowed request, scored by its time; the script decides by this set |
//! | `ratelimiter:journal:KEY` | sorted set with the same entries, for the management API |
//! | `ratelimiter:sequence:KEY` | makes the entries unique |
//! | `ratelimiter:keys` | hash: key -> `limit window_ms when`, of the last request |
//! | `ratelimiter:limits` | hash: key -> `limit window_ms`, set manually |
//! | `ratelimiter:members` | hash: node -> `address registered_at`, of all nodes that ever registered |
//! | `ratelimiter:nodes:ID` | hash with a time to live, one per present node |

pub const PREFIX: &str = "ratelimiter";

/// Redis script that counts a request if the request is allowed. `KEYS`: window, journal, sequence, keys, limits. `ARGV`: key, node, limit,
/// `window_ms`, where the last two are the default rule. Returns `{allowed, count, limit, window_ms, wait_ms, rest_ms}`. `wait_ms` is the
/// time that a blocked request has to wait (-1 means forever). `rest_ms` is the time until the oldest entry leaves.
///
/// An entry leaves when it is *older* than the window. Two entries exactly one window apart, in milliseconds, therefore still share a
/// window. Rounding never allows one request too many.
pub(crate) const CHECK: &str = r"
local key, node, limit, window = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local set = redis.call('HGET', KEYS[5], key)
if set then
  local l, w = string.match(set, '^(%d+) (%d+)$')
  if l then limit, window = tonumber(l), tonumber(w) end
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local older = '(' .. string.format('%d', now - window)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', older)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', older)
redis.call('HSET', KEYS[4], key, string.format('%d %d %d', limit, window, now))
local count = redis.call('ZCARD', KEYS[1])
local function leaves(place)
  local entry = redis.call('ZRANGE', KEYS[1], place, place, 'WITHSCORES')
  if entry[2] == nil then return 0 end
  return math.max(1, tonumber(entry[2]) + window + 1 - now)
end
if count >= limit then
  local wait = -1
  if limit > 0 then wait = leaves(count - limit) end
  return {0, count, limit, window, wait, leaves(0)}
end
local entry = string.format('%d-%s-%d', now, node, redis.call('INCR', KEYS[3]))
redis.call('ZADD', KEYS[1], now, entry)
redis.call('ZADD', KEYS[2], now, entry)
for place = 1, 3 do redis.call('PEXPIRE', KEYS[place], window + 1000) end
return {1, count + 1, limit, window, 0, leaves(0)}
";

/// Redis script that lists counters. `KEYS`: keys, limits. `ARGV`: prefix. Returns `{key, journal, window, limit, window_ms}` of every key
/// that is in use or has a rule of its own. Removes keys without use for a long time.
pub(crate) const COUNTERS: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local rules = {}
local set = redis.call('HGETALL', KEYS[2])
for i = 1, #set, 2 do rules[set[i]] = set[i + 1] end
local found = {}
local seen = redis.call('HGETALL', KEYS[1])
for i = 1, #seen, 2 do
  local key = seen[i]
  local limit, window, last = string.match(seen[i + 1], '^(%d+) (%d+) (%d+)$')
  if rules[key] then
    local l, w = string.match(rules[key], '^(%d+) (%d+)$')
    if l then limit, window = l, w end
  end
  if limit then
    local from = string.format('%d', now - tonumber(window))
    local journal = redis.call('ZCOUNT', ARGV[1] .. ':journal:' .. key, from, '+inf')
    local held = redis.call('ZCOUNT', ARGV[1] .. ':window:' .. key, from, '+inf')
    if journal == 0 and held == 0 and not rules[key] and tonumber(last) + 2 * tonumber(window) + 1000 < now then
      redis.call('HDEL', KEYS[1], key)
    else
      table.insert(found, {key, journal, held, tonumber(limit), tonumber(window)})
    end
  end
end
return found
";

/// Redis script that resets a window. `KEYS`: window, journal, keys. `ARGV`: key, and `all` to forget the allowed requests as well. Returns
/// the number of entries before and after. Returns an empty answer for an unknown key.
pub const RESET: &str = r"
local seen = redis.call('HGET', KEYS[3], ARGV[1])
if not seen then return {} end
local window = tonumber(string.match(seen, '^%d+ (%d+)'))
local before = redis.call('ZCARD', KEYS[1])
redis.call('DEL', KEYS[1])
if ARGV[2] == 'all' then
  redis.call('DEL', KEYS[2])
else
  local entries = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do redis.call('ZADD', KEYS[1], entries[i + 1], entries[i]) end
  if #entries > 0 then redis.call('PEXPIRE', KEYS[1], window + 1000) end
end
return {before, redis.call('ZCARD', KEYS[1])}
";

/// Redis script that sets the rule of a key. `KEYS`: keys, limits. `ARGV`: key, limit, `window_ms`.
pub const LIMIT: &str = r"
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %d %d', tonumber(ARGV[2]), tonumber(ARGV[3]), now))
return 1
";

/// Redis script that registers a node. `KEYS`: node, members. `ARGV`: id, address, `registered_at`, time to live in milliseconds.
pub(crate) const HEARTBEAT: &str = r"
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'address', ARGV[2], 'registered_at', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return 1
";

/// Redis script that lists nodes. `KEYS`: members. `ARGV`: prefix. Returns `{id, address, registered_at, up}` of every node.
pub const NODES: &str = r"
local found = {}
local members = redis.call('HGETALL', KEYS[1])
for i = 1, #members, 2 do
  local address, at = string.match(members[i + 1], '^(%S+) (%S+)$')
  if address then
    table.insert(found, {members[i], address, at, redis.call('EXISTS', ARGV[1] .. ':nodes:' .. members[i])})
  end
end
return found
";
